"""A classification model at work: texts to probabilities, probabilities to scores."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int, PyTree

from bert_jax.arrays import Tokens
from bert_jax.config import ModelConfig
from bert_jax.data.labelled import Example, ordered_batches
from bert_jax.model.bert import ClassifyModel


class Classifier:
    """The jitted forward pass, compiled once for each (batch, length) it meets."""

    def __init__(self, model: ModelConfig, classes: int, mesh: Mesh):
        self.model = ClassifyModel(model, classes, mesh)
        self._apply = jax.jit(
            lambda params, tokens: jax.nn.softmax(
                self.model.apply({"params": params}, tokens, deterministic=True), axis=-1
            )
        )

    def init_params(self, key: jax.Array) -> PyTree:
        """Fresh parameters of encoder, pooler and head."""
        zeros = jnp.zeros((1, 8), jnp.int32)
        return self.model.init(key, Tokens(*[zeros] * 4), deterministic=True)["params"]

    def param_shapes(self) -> PyTree:
        """Shape and dtype of every parameter."""
        return jax.eval_shape(self.init_params, jax.random.key(0))

    def probabilities(
        self,
        params: PyTree,
        examples: Sequence[Example],
        *,
        batch_size: int,
        max_length: int,
        pad: int,
    ) -> Float[np.ndarray, "N C"]:
        """The probability of every class for every example, in the order given."""
        result = np.zeros((len(examples), self.model.classes), np.float32)
        batches = ordered_batches(examples, batch_size=batch_size, max_length=max_length, pad=pad)
        for indices, batch in batches:
            result[indices] = np.asarray(self._apply(params, batch.tokens))[: len(indices)]
        return result


def score(
    labels: Int[np.ndarray, "N"], probabilities: Float[np.ndarray, "N C"]
) -> dict[str, float]:
    """Accuracy, macro-averaged F1 over the classes, and mean cross-entropy in nats."""
    from sklearn import metrics  # a second to import, which a prediction need not wait for

    predicted = probabilities.argmax(axis=-1)
    likelihood = np.maximum(probabilities[np.arange(len(labels)), labels], 1e-12)
    return {
        "accuracy": float(metrics.accuracy_score(labels, predicted)),
        "macro_f1": float(
            metrics.f1_score(
                labels,
                predicted,
                labels=range(probabilities.shape[1]),
                average="macro",
                zero_division=0.0,
            )
        ),
        "loss": float(-np.log(likelihood).mean()),
    }


def confusion(
    labels: Int[np.ndarray, "N"], probabilities: Float[np.ndarray, "N C"]
) -> list[list[int]]:
    """Counts with a row for each true class and a column for each predicted one."""
    from sklearn import metrics

    classes = range(probabilities.shape[1])
    matrix: Any = metrics.confusion_matrix(labels, probabilities.argmax(-1), labels=classes)
    return matrix.tolist()
