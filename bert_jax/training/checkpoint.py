"""Checkpoints of one run: parameters, optimizer, step, and all it takes to go on.

Beside the arrays lies `run`, a JSON value with the data position, the resolved config
and the tokenizer's files, so that a checkpoint directory can be moved by itself. The
parts are separate, so a reader of parameters never touches the optimizer's two copies.
This is the only file that knows Orbax. Saving is asynchronous and atomic: a directory
without Orbax's commit mark does not count as a checkpoint.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import SingleDeviceSharding
from jaxtyping import PyTree
from orbax.checkpoint import v1 as ocp

from bert_jax.errors import InputError
from bert_jax.training.paths import map_paths
from bert_jax.training.state import TrainState

DIRECTORY = "checkpoints"
BEST_METRIC = "best_metric"  # in the metrics of runs that have a best checkpoint


class Checkpoints:
    """The checkpoints under `workdir/checkpoints`, the newest `keep` and the best one.

    `best_metric` names the entry of the metrics given to `save` that is best when highest;
    without it only the newest are kept. Use as a context manager: leaving waits for the
    last save.
    """

    def __init__(self, workdir: str | Path, *, keep: int = 1, best_metric: str = ""):
        self.directory = Path(workdir).absolute() / DIRECTORY
        self._best_metric = best_metric
        policies = ocp.training.preservation_policies
        kept = [policies.LatestN(keep)]
        if best_metric:
            kept.append(policies.BestN(get_metric_fn=lambda m: m[best_metric], n=1))
        self._checkpointer = ocp.training.Checkpointer(
            self.directory, preservation_policy=policies.AnyPreservationPolicy(kept)
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: Any) -> None:
        self._checkpointer.close()

    def save(self, state: TrainState, run: dict[str, Any], metrics: dict[str, float]) -> None:
        """Starts writing the state under its step; returns once the arrays are copied."""
        parts = {
            "params": state.params,
            "rest": _rest(state),
            # As bytes: Orbax wants arrays in a tree, and warns about anything else.
            "run": {"json": np.frombuffer(json.dumps(run).encode(), np.uint8)},
        }
        self._checkpointer.save_checkpointables_async(
            int(state.step), parts, force=True, metrics=metrics or None
        )

    def latest(self) -> int | None:
        """The newest step saved, or None."""
        newest = self._checkpointer.latest
        return None if newest is None else newest.step

    def best(self) -> int | None:
        """The step with the highest `best_metric`; of equals the latest, which Orbax keeps."""
        saved = [c for c in self._checkpointer.checkpoints if c.metrics]
        if not self._best_metric or not saved:
            return self.latest()
        return max(saved, key=lambda c: (c.metrics[self._best_metric], c.step)).step

    def read_run(self, step: int) -> dict[str, Any]:
        """The JSON value saved beside the arrays."""
        saved = self._load(step, {"run": {"json": np.empty(0, np.uint8)}})["run"]["json"]
        return json.loads(saved.tobytes())

    def restore(self, step: int, like: TrainState) -> TrainState:
        """The whole state, placed as `like` (arrays or ShapeDtypeStructs with shardings)."""
        like = jax.tree.map(_abstract, like)
        self._check_shapes(step, "params", like.params)
        parts = self._load(step, {"params": like.params, "rest": _rest(like)})
        return TrainState(params=parts["params"], **parts["rest"])

    def restore_params(self, step: int, like: PyTree) -> PyTree:
        """Only the parameters."""
        self._check_shapes(step, "params", like)
        return self._load(step, {"params": jax.tree.map(_abstract, like)})["params"]

    def param_shapes(self, step: int) -> PyTree:
        """Shape and dtype of every saved parameter, without reading any."""
        metadata = self._guard(step, lambda: self._checkpointer.checkpointables_metadata(step))
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), metadata.metadata["params"]
        )

    def _load(self, step: int, abstract: dict[str, Any]) -> dict[str, Any]:
        return self._guard(step, lambda: self._checkpointer.load_checkpointables(step, abstract))

    def _guard(self, step: int, read: Callable[[], Any]) -> Any:
        try:
            return read()
        except InputError:
            raise
        except Exception as error:
            raise InputError(
                f"checkpoint {self.directory / str(step)} cannot be read"
                f" ({type(error).__name__}): delete that directory to go on from the one before."
            ) from error

    def _check_shapes(self, step: int, part: str, like: PyTree) -> None:
        saved = dict(_shapes(self.param_shapes(step)))
        wanted = dict(_shapes(like))
        for path in sorted(saved.keys() | wanted.keys()):
            if saved.get(path) != wanted.get(path):
                raise InputError(
                    f"checkpoint {self.directory / str(step)} is of another architecture: {path}"
                    f" is {_show(saved.get(path))} there and {_show(wanted.get(path))} here;"
                    " set config.model as it was."
                )


def has_checkpoint(workdir: str | Path) -> bool:
    """Whether any checkpoint was finished there."""
    found = (Path(workdir) / DIRECTORY).glob("*/_CHECKPOINT_METADATA")
    return any(path.parent.name.isdigit() for path in found)


def _rest(state: TrainState) -> dict[str, PyTree]:
    """All but the parameters: no reader of those touches the optimizer's two copies."""
    rest = state._asdict()
    del rest["params"]
    return rest


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    sharding = getattr(leaf, "sharding", None) or SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _shapes(tree: PyTree) -> list[tuple[str, tuple[int, ...]]]:
    return jax.tree.leaves(
        map_paths(lambda path, leaf: (path, tuple(leaf.shape)), tree),
        is_leaf=lambda node: isinstance(node, tuple) and node and isinstance(node[0], str),
    )


def _show(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else " x ".join(map(str, shape)) or "a scalar"
