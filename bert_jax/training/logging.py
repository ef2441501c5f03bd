"""What a run tells: metrics.jsonl, TensorBoard events and a progress bar."""

import json
import math
import os
import sys
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter
from tqdm import tqdm

from bert_jax.errors import InputError
from bert_jax.training.distributed import is_main
from bert_jax.workdir import write_text

METRICS = "metrics.jsonl"


class RunLog:
    """Writes logged points; a resumed run first drops the points after its step.

    Each line of metrics.jsonl is one object: step, split and every metric by name. Of several
    processes only the main one writes; in the others all of this does nothing.
    """

    def __init__(self, workdir: Path, *, step: int, total_steps: int, title: str):
        self._writes = is_main()
        path = workdir / METRICS if self._writes else Path(os.devnull)
        if self._writes:
            _drop_after(path, step)
        self._file = path.open("a", encoding="utf-8")
        self._events = SummaryWriter(
            str(workdir / "tensorboard"), purge_step=step + 1, write_to_disk=self._writes
        )
        # A log file gets a line every half minute, a terminal a moving bar.
        is_terminal = sys.stderr.isatty()
        self._bar = tqdm(
            desc=title,
            total=total_steps,
            initial=step,
            unit="step",
            mininterval=0.5 if is_terminal else 30,
            dynamic_ncols=is_terminal,
            disable=not self._writes,
        )

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, *_: Any) -> None:
        self._bar.close()
        self._events.close()
        self._file.close()

    def write(self, step: int, split: str, metrics: dict[str, float]) -> dict[str, Any]:
        """Appends one point and returns it; a killed process leaves it whole."""
        # JSON has no nan: a metric that nothing counted for is null.
        values = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        point = {"step": step, "split": split, **values}
        self._file.write(json.dumps(point) + "\n")
        self._file.flush()
        for name, value in values.items():
            if value is not None:
                self._events.add_scalar(f"{split}/{name}", value, step)
        return point

    def progress(self, step: int, shown: dict[str, float]) -> None:
        """Moves the bar to `step`; a non-empty `shown` replaces the numbers on it.

        A metric that nothing counted for, as the next sentence where there are no pairs,
        is left out.
        """
        if shown:
            numbers = {n: f"{value:,.4g}" for n, value in shown.items() if math.isfinite(value)}
            self._bar.set_postfix(numbers, refresh=False)
        self._bar.update(step - self._bar.n)

    def say(self, line: str) -> None:
        """Prints a line above the bar."""
        if self._writes:
            self._bar.write(line)


def read_metrics(workdir: str | Path) -> list[dict[str, Any]]:
    """Every logged point, in order."""
    path = Path(workdir) / METRICS
    try:
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    except FileNotFoundError:
        raise InputError(
            f"{path} is missing, which says what the run has reached: put it back, or use a new"
            " --workdir."
        ) from None


def _drop_after(path: Path, step: int) -> None:
    if not path.exists():
        return
    kept = []
    for line in path.read_text("utf-8").splitlines(keepends=True):
        # A killed run may have left half a line at the end.
        if line.endswith("\n") and json.loads(line)["step"] <= step:
            kept.append(line)
    write_text(path, "".join(kept))
