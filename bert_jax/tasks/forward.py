"""A task's model at work: rows to answers."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import PyTree

from bert_jax.arrays import Tokens
from bert_jax.config import ModelConfig
from bert_jax.data.encoding import bucket
from bert_jax.data.epochs import ordered_batches
from bert_jax.tasks.batches import even_batches
from bert_jax.tasks.task import Task
from bert_jax.training.sharding import row_shards

EVAL_BATCH = 64


class Forward:
    """The jitted forward pass, compiled once for each shape of a batch."""

    def __init__(self, task: Task, model: ModelConfig, mesh: Mesh):
        self.task = task
        self.config = model
        self._mesh = mesh
        self.model = task.model(model, mesh)
        self._apply = jax.jit(self._predictions)

    def init_params(self, key: jax.Array) -> PyTree:
        """Fresh parameters of the encoder and the head."""
        zeros = jnp.zeros((1, 8), jnp.int32)
        return self.model.init(key, Tokens(*[zeros] * 4), deterministic=True)["params"]

    def param_shapes(self) -> PyTree:
        """Shape and dtype of every parameter."""
        return jax.eval_shape(self.init_params, jax.random.key(0))

    def answers(
        self, params: PyTree, rows: Sequence[Any], examples: Sequence[Any], *, batch_size: int
    ) -> list[Any]:
        """The task's answer for every row; `examples` are those of the rows.

        Calls of any rows compile for few lengths. For one call of many, `evaluate` is faster.
        """
        return self._answers(params, rows, examples, self._padded(examples, batch_size))

    def evaluate(self, params: PyTree, rows: Sequence[Any], examples: Sequence[Any]) -> list[Any]:
        """The same, where the short texts share rows and all batches one shape."""
        batches = even_batches(
            self.task, examples, batch_size=EVAL_BATCH, multiple=row_shards(self._mesh)
        )
        return self._answers(params, rows, examples, batches)

    def _padded(
        self, examples: Sequence[Any], batch_size: int
    ) -> Iterator[tuple[np.ndarray, PyTree]]:
        lengths = [example.length for example in examples]
        for indices in ordered_batches(lengths, batch_size=batch_size):
            length = bucket(max(lengths[i] for i in indices), self.task.max_length)
            yield indices, self.task.batch([examples[i] for i in indices], batch_size, length)

    def _answers(
        self,
        params: PyTree,
        rows: Sequence[Any],
        examples: Sequence[Any],
        batches: Iterable[tuple[np.ndarray, PyTree]],
    ) -> list[Any]:
        found: list[PyTree] = [None] * len(examples)
        for indices, batch in batches:
            predictions = jax.device_get(self._apply(params, batch))
            for place, index in enumerate(indices):
                found[index] = jax.tree.map(lambda array, place=place: array[place], predictions)
        return self.task.answers(rows, examples, found)

    def _predictions(self, params: PyTree, batch: Any) -> PyTree:
        outputs = self.model.apply({"params": params}, batch.tokens, deterministic=True)
        return self.task.predictions(outputs, batch)
