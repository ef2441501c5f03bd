"""Checkpoints of one run: parameters, optimizer, step, and all it takes to go on.

Beside the arrays lies `run`, the record with the data position, the resolved config, the
tokenizer's files and the checksum of every array, so that a checkpoint directory can be
moved by itself and damage is noticed. The parts are separate, so a reader of parameters
never touches the optimizer's two copies. This is the only file that calls Orbax. Saving is
asynchronous and atomic: a directory without Orbax's commit marks does not count.
"""

import contextlib
import math
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import SingleDeviceSharding
from jaxtyping import PyTree
from orbax.checkpoint import v1 as ocp

from bert_jax.errors import InputError, first_line, root_cause
from bert_jax.training import record as records
from bert_jax.training.distributed import barrier, is_main, of_main
from bert_jax.training.orbax_noise import hush
from bert_jax.training.record import Damaged, OtherFormat, Record
from bert_jax.training.state import TrainState
from bert_jax.training.verdict import agreed
from bert_jax.workdir import FULL

DIRECTORY = "checkpoints"
DAMAGED = "damaged"  # beside DIRECTORY: what a resumed run has set aside
BEST_METRIC = "best_metric"  # in the metrics of runs that have a best checkpoint
BEST_SINCE = "best_since"  # beside it: only those with the highest of this are compared

_MARKS = ("_CHECKPOINT_METADATA", "commit_success.txt")  # Orbax's, in a finished checkpoint
_PARTIAL = "*.orbax-checkpoint-tmp*"
# Writes have ended where none has come for so long; they are waited for at most so long.
QUIET_SECONDS, PATIENCE_SECONDS = 0.5, 10.0

_Rating = tuple[float, float] | None  # BEST_SINCE and the best metric, where there is one


class Restored(NamedTuple):
    """What a run goes on from."""

    step: int
    state: TrainState
    run: dict[str, Any]


class Checkpoints:
    """The checkpoints under `workdir/checkpoints`, the newest `keep` and the best one.

    `best_metric` names the entry of the metrics given to `save` that is best when highest;
    a checkpoint saved without it is never the best. Without any only the newest are kept. Use
    as a context manager: leaving waits for the last save.
    """

    def __init__(self, workdir: str | Path, *, keep: int = 1, best_metric: str = ""):
        hush()
        self.directory = Path(workdir).absolute() / DIRECTORY
        self._keep = keep
        self._best_metric = best_metric
        self._ratings: dict[int, _Rating] = {}  # of the steps met so far
        self._saving = 0
        # Made by the first save: a reader leaves no directory, and Orbax looks only at what
        # `restore_newest` has found sound.
        self._checkpointer: ocp.training.Checkpointer | None = None

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, _: Any, raised: BaseException | None, __: Any) -> None:
        if self._checkpointer is None:
            return
        try:
            with self._writing():
                self._checkpointer.close()
        except InputError as error:
            if raised is None:
                raise
            print(f"error: {error}", file=sys.stderr)  # beside what has ended the run

    def save(self, state: TrainState, run: dict[str, Any], metrics: dict[str, float]) -> None:
        """Starts writing the state under its step; returns once the arrays are copied.

        Raises InputError where this or the save before could not be written.
        """
        self.wait()
        step = int(state.step)
        arrays = _parts(state)
        content = records.encode(Record(run, metrics, records.describe(arrays)))
        # As bytes: Orbax wants arrays in a tree, and warns about anything else.
        parts = arrays | {"run": {"json": np.frombuffer(content, np.uint8)}}
        self._ratings[step] = self._rating(metrics)
        self._saving = step
        with self._writing():
            if self._checkpointer is None:
                self._checkpointer = ocp.training.Checkpointer(
                    self.directory, preservation_policy=self
                )
            self._checkpointer.save_checkpointables_async(step, parts, force=True)

    def wait(self) -> None:
        """Returns once the last save is on the disk. Raises InputError where it cannot be."""
        if self._checkpointer is not None:
            with self._writing():
                self._checkpointer.wait()

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """Orbax's question which checkpoints stay, the oldest first."""
        del context
        steps = [checkpoint.step for checkpoint in checkpoints]
        kept = set(steps[-self._keep :])
        if self._best_metric:
            kept.add(self._best_of(steps))
            # It may be the best: nothing is deleted that cannot be judged.
            kept.update(step for step in steps if step not in self._ratings)
        return [step in kept for step in steps]

    def latest(self) -> int | None:
        """The newest step saved, or None."""
        return max(self._agreed_steps(), default=None)

    def best(self) -> int | None:
        """The step with the highest `best_metric`, of equals the latest; without any `latest`."""
        steps = self._agreed_steps()
        for step in steps:
            with self._told(step):
                self._record(step)
        return self._best_of(steps)

    def read_record(self, step: int) -> Record:
        """What was saved beside the arrays, and of them their shapes."""
        with self._told(step):
            return self._record(step)

    def restore(self, step: int, like: TrainState) -> TrainState:
        """The whole state, placed as `like` (arrays or ShapeDtypeStructs with shardings)."""
        with self._told(step):
            return self._restore(step, like, self._record(step))

    def restore_newest(
        self, like: TrainState, check: Callable[[int, dict[str, Any]], None]
    ) -> Restored | None:
        """The newest state that can be read whole, or None where none was ever saved.

        Damaged ones newer than it are set aside, and said. `check(step, run)` raises
        InputError where the checkpoint is not of this run; that is no damage, and neither
        is another architecture: both are raised. For the run alone that holds the workdir.
        """
        self._clear_half_written()
        damaged: dict[int, str] = {}
        for step in reversed(self._agreed_steps()):
            try:
                record = self._record(step)
                check(step, record.run)
                state = self._restore(step, like, record)
            except Damaged as error:
                damaged[step] = str(error)
                continue
            for other, why in damaged.items():
                self._set_aside(other, f"is damaged ({why})", f", going on from step {step}")
            barrier("damaged checkpoints are set aside")
            return Restored(step, state, record.run)
        if damaged:
            reasons = ", ".join(f"{step} ({why})" for step, why in damaged.items())
            raise InputError(
                f"every checkpoint in {self.directory} is damaged: {reasons}; put a copy of one"
                " in its place, or delete that directory to begin anew."
            )
        return None

    def restore_params(self, step: int, like: PyTree) -> PyTree:
        """Only the parameters."""
        with self._told(step):
            return self._arrays(step, {"params": like}, self._record(step))["params"]

    def _record(self, step: int) -> Record:
        content = self._load(step, {"run": {"json": np.empty(0, np.uint8)}})["run"]["json"]
        try:
            record = agreed(self._name(step), lambda: records.decode(np.asarray(content).tobytes()))
        except OtherFormat:
            raise InputError(
                f"{self._name(step)} was written by another version of"
                " bert_jax: go on with that version, or train in a new --workdir."
            ) from None
        self._ratings[step] = self._rating(record.metrics)
        return record

    def _restore(self, step: int, like: TrainState, record: Record) -> TrainState:
        parts = self._arrays(step, _parts(like), record)
        return TrainState(params=parts["params"], **parts["rest"])

    def _arrays(self, step: int, like: dict[str, PyTree], record: Record) -> dict[str, PyTree]:
        records.check_architecture(self._name(step), record.arrays, like)
        parts = self._load(step, jax.tree.map(_abstract, like))
        agreed(self._name(step), lambda: records.verify(parts, record.arrays))
        return parts

    def _load(self, step: int, abstract: dict[str, Any]) -> dict[str, Any]:
        def load() -> dict[str, Any]:
            with ocp.Context(multiprocessing_options=_alone()):
                return ocp.load_checkpointables(self.directory / str(step), abstract)

        return agreed(self._name(step), load)

    def _agreed_steps(self) -> list[int]:
        """The main process's: another may not see yet what has been saved or removed."""
        return of_main(sorted(_steps(self.directory)))

    def _name(self, step: int) -> str:
        return f"checkpoint {self.directory / str(step)}"

    @contextlib.contextmanager
    def _told(self, step: int) -> Iterator[None]:
        """For readers: damage is one sentence, and the checkpoint stays where it is."""
        try:
            yield
        except Damaged as error:
            raise InputError(
                f"{self._name(step)} is damaged ({error}): run its training"
                " again, which goes on from the one before, or delete that directory."
            ) from error

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """What the disk has against a save becomes one sentence, and no part of it is left."""
        try:
            yield
        except Exception as error:
            cause = root_cause(error)
            # TensorStore raises a ValueError with the system's number in its words.
            if not isinstance(cause, OSError) and "os_error_code=" not in str(cause):
                raise
            self._remove_partial(QUIET_SECONDS)
            newest = max(_steps(self.directory), default=None)
            goes_on = "begins anew" if newest is None else f"continues from step {newest}"
            is_full = _is_full(cause)
            what = "the disk is full" if is_full else textwrap.shorten(first_line(cause), 200)
            mend = "free space" if is_full else "mend that"
            raise InputError(
                f"checkpoint {self._saving} cannot be written to {self.directory} ({what}):"
                f" {mend} and run the command again; it {goes_on}."
            ) from error

    def _best_of(self, steps: Sequence[int]) -> int | None:
        for step in steps:
            if step not in self._ratings:
                with contextlib.suppress(Damaged, InputError):
                    self._record(step)
        rated = [(self._ratings[step], step) for step in steps if self._ratings.get(step)]
        return max(rated)[1] if rated else max(steps, default=None)

    def _rating(self, metrics: dict[str, float]) -> _Rating:
        value = metrics.get(self._best_metric)
        if value is None or not math.isfinite(value):
            return None
        return metrics.get(BEST_SINCE, 0), value

    def _clear_half_written(self) -> None:
        """What a killed save has left would otherwise stay, and stand in the way of the next."""
        for path in sorted(self.directory.glob("*")):
            if path.name.isdigit() and not _is_finished(path):
                self._set_aside(int(path.name), "was never finished", "")
        self._remove_partial(0.0)
        barrier("half-written checkpoints are cleared")

    def _remove_partial(self, quiet_seconds: float) -> None:
        """Until none has come back for so long: writes begun before a failure go on after it."""
        quiet_since = begun = time.monotonic()
        while is_main() and time.monotonic() - begun < PATIENCE_SECONDS:
            for path in self.directory.glob(_PARTIAL):
                shutil.rmtree(path, ignore_errors=True)
                quiet_since = time.monotonic()
            if time.monotonic() - quiet_since >= quiet_seconds:
                return
            time.sleep(0.05)

    def _set_aside(self, step: int, what: str, then: str) -> None:
        if not is_main():
            return
        workdir = self.directory.parent
        folder = workdir / DAMAGED
        folder.mkdir(exist_ok=True)
        taken = {path.name for path in folder.iterdir()}
        names = [str(step), *(f"{step}.{n}" for n in range(1, len(taken) + 1))]
        name = next(name for name in names if name not in taken)
        (self.directory / str(step)).rename(folder / name)
        print(f"checkpoint {step} of {workdir} {what}: kept in {DAMAGED}/{name}{then}")


def has_checkpoint(workdir: str | Path) -> bool:
    """Whether any checkpoint was finished there."""
    return bool(_steps(Path(workdir) / DIRECTORY))


def _steps(directory: Path) -> list[int]:
    """Those that were finished, damaged since or not."""
    return [int(p.name) for p in directory.glob("*") if p.name.isdigit() and _is_finished(p)]


def _is_finished(path: Path) -> bool:
    return any((path / mark).exists() for mark in _MARKS)


def _parts(state: TrainState) -> dict[str, PyTree]:
    rest = state._asdict()
    return {"params": rest.pop("params"), "rest": rest}


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    sharding = getattr(leaf, "sharding", None) or SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _alone() -> ocp.options.MultiprocessingOptions:
    """Each process reads its part without the others.

    Orbax would have all of them meet at the end of a read, and one that met damage does not
    come: the others would wait for it.
    """
    own = jax.process_index()
    return ocp.options.MultiprocessingOptions(primary_host=own, active_processes={own})


def _is_full(error: BaseException) -> bool:
    said = any(f"os_error_code='{number}'" in str(error) for number in FULL)
    return said or getattr(error, "errno", None) in FULL
