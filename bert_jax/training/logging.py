"""What a run tells: metrics.jsonl, TensorBoard events and a progress bar."""

import contextlib
import json
import math
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import RecordWriter
from tensorboardX.summary import scalar
from tqdm import tqdm

from bert_jax.errors import InputError
from bert_jax.training.distributed import is_main
from bert_jax.workdir import write_bytes, writing

METRICS = "metrics.jsonl"


class RunLog:
    """Writes logged points; a resumed run first drops the points after its step.

    Each line of metrics.jsonl is one object: step, split and every metric by name. Of several
    processes only the main one writes; in the others all of this does nothing.
    """

    def __init__(self, workdir: Path, *, step: int, total_steps: int, title: str):
        self._writes = is_main()
        self._path = workdir / METRICS
        if self._writes:
            with writing(workdir):
                _drop_after(self._path, step)
                self._file = self._path.open("ab", buffering=0)
                self._events = _Events(workdir / "tensorboard", step + 1)
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
        if not self._writes:
            return
        # What is written is flushed: a full disk has nothing more to say here.
        with contextlib.suppress(OSError):
            self._events.close()
        with contextlib.suppress(OSError):
            self._file.close()

    def write(self, step: int, split: str, metrics: dict[str, float]) -> dict[str, Any]:
        """Appends one point and returns it; a full disk leaves no half line."""
        # JSON has no nan: a metric that nothing counted for is null.
        values = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        point = {"step": step, "split": split, **values}
        if not self._writes:
            return point
        with writing(self._path.parent):
            self._append(f"{json.dumps(point)}\n".encode())
            numbers = {f"{split}/{n}": value for n, value in values.items() if value is not None}
            self._events.write(step, numbers)
        return point

    def _append(self, line: bytes) -> None:
        end = os.fstat(self._file.fileno()).st_size
        try:
            while line:
                line = line[self._file.write(line) :]
        except OSError:
            self._file.truncate(end)
            raise

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


class _Events:
    """An event file for TensorBoard, which then forgets what it has from `purge_step` on.

    Not tensorboardX's own writer: its thread dies of a full disk, and the run then waits
    for it forever.
    """

    def __init__(self, directory: Path, purge_step: int):
        directory.mkdir(exist_ok=True)
        # The process is named, for a run may be begun again within the second.
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{os.getpid()}"
        self._writer = RecordWriter(str(directory / name))
        self._put(Event(file_version="brain.Event:2"))
        start = SessionLog(status=SessionLog.START)
        self._put(Event(step=purge_step, session_log=start))

    def write(self, step: int, numbers: dict[str, float]) -> None:
        for tag, value in numbers.items():
            self._put(Event(step=step, summary=scalar(tag, value)))
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()

    def _put(self, event: Event) -> None:
        event.wall_time = time.time()
        self._writer.write(event.SerializeToString())


def check_log(workdir: str | Path) -> None:
    """Raises InputError where a run that has begun has lost its log."""
    path = Path(workdir) / METRICS
    if not path.exists():
        raise InputError(
            f"{path} is missing, which says what the run has reached: put it back, or use a new"
            " --workdir."
        )


def read_metrics(workdir: str | Path) -> list[dict[str, Any]]:
    """Every logged point, in order."""
    check_log(workdir)
    path = Path(workdir) / METRICS
    return [
        _point(path, number, line) for number, line in enumerate(path.read_bytes().splitlines(), 1)
    ]


def _drop_after(path: Path, step: int) -> None:
    if not path.exists():
        return
    kept = []
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), 1):
        # A killed run may have left half a line at the end.
        if line.endswith(b"\n") and _point(path, number, line)["step"] <= step:
            kept.append(line)
    write_bytes(path, b"".join(kept))


def _point(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        return json.loads(line)
    except ValueError:
        raise InputError(f"{path}:{number} is no JSON: delete that line to go on.") from None
