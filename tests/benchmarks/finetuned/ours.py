"""One seed with bert_jax: `python -m tests.benchmarks.finetuned.ours SPEC.json RESULT.json`."""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import jax

from bert_jax import process
from bert_jax import workdir as wd
from bert_jax.tasks import all_tasks, evaluate, finetune
from bert_jax.training.checkpoint import Checkpoints
from bert_jax.training.clock import COMPILING, EVALUATING, LOGGING, STEPPING, WAITING
from tests.benchmarks.finetuned.report import Result, Seconds

COMPILATION = "/jax/core/compile/"  # how its events begin: tracing, lowering, XLA


class Compilation:
    """Seconds in which steps were compiled, one for each shape of a batch."""

    def __init__(self):
        self.seconds = 0.0
        jax.monitoring.register_event_duration_secs_listener(self._add)

    def _add(self, event: str, seconds: float, **said: Any) -> None:
        # What is traced within the step has a name of its own, and is in the step's time.
        if event.startswith(COMPILATION) and "train_step" in str(said.get("fun_name")):
            self.seconds += seconds


def run(config: dict[str, Any]) -> Result:
    """Fine-tunes and evaluates the best checkpoint, as the two commands do."""
    compilation = Compilation()
    names = all_tasks.named(config["task"]).METRICS
    with tempfile.TemporaryDirectory() as folder:
        best = finetune.run(config, folder)
        with Checkpoints(Path(folder)) as checkpoints:
            steps = checkpoints.latest()
            spent = checkpoints.read_record(steps).run["clock"]["spent"]
        test = evaluate.run(config, folder)
    training = sum(spent.get(name, 0.0) for name in (STEPPING, WAITING, COMPILING, LOGGING))
    return Result(
        validation={name: best[name] for name in names if name in best},
        test={name: test[name] for name in names if name in test},
        steps=steps,
        seconds=Seconds(
            training=training - compilation.seconds,
            compiling=compilation.seconds,
            evaluating=spent.get(EVALUATING, 0.0),
        ),
    )


if __name__ == "__main__":
    process.settle()  # as the commands do
    spec = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    wd.write_json(Path(sys.argv[2]), run(spec["config"]).json())
