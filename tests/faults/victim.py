"""A pretraining to which something happens: `python victim.py FAULT STEP CONFIG WORKDIR`.

It ends as the command would: with its exit code, and what it says on stderr.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

from bert_jax import cli
from bert_jax.errors import InputError, Interrupted
from bert_jax.tasks import pretrain
from bert_jax.training.checkpoint import Checkpoints
from bert_jax.training.report import Report

SECONDS_A_STEP = 0.04  # so that there is time for something to happen


def kill() -> None:
    """Nothing runs after this: no handler, no `finally`, no flush."""
    os.kill(os.getpid(), signal.SIGKILL)


def slow_down() -> None:
    """Every step takes a little while."""
    add = Report.add

    def slow(self, step, means):
        time.sleep(SECONDS_A_STEP)
        add(self, step, means)

    Report.add = slow


def kill_in_step(at: int) -> None:
    """Once step `at` has been dispatched and before it is looked at."""
    add = Report.add

    def killed(self, step, means):
        if step == at:
            kill()
        add(self, step, means)

    Report.add = killed


def kill_in_save(at: int) -> None:
    """While the arrays of step `at` are being written."""
    save = Checkpoints.save

    def killed(self, state, run, metrics):
        save(self, state, run, metrics)
        if int(state.step) == at:
            kill()

    Checkpoints.save = killed


def kill_after_save(at: int) -> None:
    """Once step `at` is on the disk, before anything else."""
    save = Checkpoints.save

    def killed(self, state, run, metrics):
        save(self, state, run, metrics)
        if int(state.step) == at:
            self.wait()
            kill()

    Checkpoints.save = killed


def bad_batch(at: int) -> None:
    """An id far outside the vocabulary in step `at`, which the model reads as NaN."""
    iterate = pretrain.pipeline.iterate_from

    def planted(batches, first):
        for step, batch in enumerate(iterate(batches, first), start=first + 1):
            if step == at:
                batch.tokens.ids[0, 1] = 10**6
            yield batch

    pretrain.pipeline.iterate_from = planted


FAULTS = {
    "none": lambda at: None,
    "kill in step": kill_in_step,
    "kill in save": kill_in_save,
    "kill after save": kill_after_save,
    "bad batch": bad_batch,
}


def main() -> None:
    """Inflicts the fault and runs."""
    fault, at, config, workdir = sys.argv[1:]
    slow_down()
    FAULTS[fault](int(at))
    try:
        pretrain.run(json.loads(Path(config).read_text("utf-8")), workdir)
    except InputError as error:
        cli.stop(str(error))
    except Interrupted as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
