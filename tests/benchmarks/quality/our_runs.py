"""Our runs: the very command of the README, and what is taken away from it to see its worth."""

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from bert_jax import workdir as wd
from bert_jax.data import dataset, prepare
from bert_jax.training.checkpoint import DIRECTORY, Checkpoints
from bert_jax.training.logging import read_metrics
from bert_jax.training.metrics import TOKENS
from tests.benchmarks.made_by import made_by
from tests.benchmarks.quality import curve
from tests.benchmarks.quality.curve import Curve, Point, tokens_at, training_seconds
from tests.benchmarks.quality.heldout import Evaluator
from tests.benchmarks.quality.their_runs import CODE, Variant

ABLATIONS = ("pairs", "packing", "gathered_head", "schedule", "batch")
# Of these the dataset is prepared anew, from the same documents and with the same vocabulary.
PREPARED = {"pairs": {"objective": "mlm"}, "packing": {"packing": False}}
NEVER = 1_000_000  # steps: more than there are


@dataclasses.dataclass(frozen=True)
class OurRuns:
    """Runs in folders of `workdir`; one that has ended with the same settings is taken as it is."""

    workdir: Path
    data: Path
    identity: str  # of the dataset
    config: str  # name in configs/
    log_every: int  # of that config
    evaluator: Evaluator

    def run(self, minutes: float, without: str, peer: Variant) -> Curve:
        """Trains, evaluates every point, and leaves the curve in the run's folder.

        `without` is "", or one of ABLATIONS, or several joined by +; what then stands in their
        place is the `peer`'s.
        """
        name = f"ours_without_{without}" if without else "ours"
        directory = self.workdir / f"{name}_{minutes:g}min"
        fields = self._fields(minutes, without, peer)
        made_with = fields | {
            "minutes": minutes,
            "without": without,
            "config": self.config,
            "data": self.identity,
            **made_by(("jax", "jaxlib", "flax"), CODE),
        }
        found = curve.read(directory)
        if found and found.made_with == made_with:
            return found
        shutil.rmtree(directory, ignore_errors=True)
        command = [sys.executable, "-m", "bert_jax.pretrain"]
        command += [f"--config=configs/{self.config}.py", f"--workdir={directory}"]
        command.append(f"--config.data={self._data(without)}")
        command += [f"--config.{field}={value}" for field, value in fields.items()]
        print(f"{directory.name}: {' '.join(command[1:])}", flush=True)
        subprocess.run(command, check=True)
        found = Curve(directory.name, made_with, self._points(directory))
        found.save(directory)
        return found

    def _fields(self, minutes: float, without: str, peer: Variant) -> dict[str, Any]:
        # A checkpoint a point: the faster steps of a small model are some 15 a second.
        every = self.log_every * max(1, round(minutes * 60 * 15 / curve.POINTS / self.log_every))
        fields = {
            "budget_minutes": minutes,
            "steps": NEVER,
            "eval_every": NEVER,
            "save_every": every,
            "keep": NEVER,
        }
        instead = {
            "gathered_head": {
                "masking.max_predictions": dataset.read_manifest(self.data)["length"]
            },
            "schedule": {
                "optimizer.learning_rate": peer.learning_rate,
                "optimizer.warmup_fraction": 0.0,
            },
            "batch": {"batch_size": peer.batch_size},
        }
        for part in without.split("+"):
            fields |= instead.get(part, {})
        return fields

    def _data(self, without: str) -> Path:
        """The dataset that there is, or what of it the run is without prepared otherwise."""
        parts = [part for part in without.split("+") if part in PREPARED]
        if not parts:
            return self.data
        directory = self.workdir / f"data_without_{'+'.join(parts)}"
        made_with = dataset.read_manifest(self.data)["config"]
        config = ConfigDict(made_with | {"workers": 1})
        for part in parts:
            config.instances.update(PREPARED[part])
        config.tokenizer.path = str(self.data / wd.TOKENIZER)
        prepare.run(config, directory)
        return directory

    def _points(self, directory: Path) -> list[Point]:
        steps = sorted(int(p.name) for p in (directory / DIRECTORY).iterdir() if p.name.isdigit())
        log = [(p["step"], p[TOKENS]) for p in read_metrics(directory) if p["split"] == "train"]
        with Checkpoints(directory) as checkpoints:
            clocks = [checkpoints.read_record(step).run["clock"]["spent"] for step in steps]
        return [
            Point(training_seconds(spent), step, tokens, self.evaluator(directory, step))
            for step, tokens, spent in zip(steps, tokens_at(steps, log), clocks, strict=True)
        ]
