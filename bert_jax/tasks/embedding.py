"""A text as one vector: of its [CLS], or the mean over its tokens."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from bert_jax.arrays import Tokens
from bert_jax.data.encoding import Encoding, bucket, pad_tokens
from bert_jax.data.epochs import ordered_batches
from bert_jax.errors import InputError
from bert_jax.model.encoder import Encoder
from bert_jax.model.states import last_states
from bert_jax.tasks.saved_model import SavedModel
from bert_jax.training.sharding import one_device_mesh

POOLINGS = ("cls", "mean", "last4")
LAYERS = 4  # of "last4"


class Embedder:
    """The jitted encoder of a saved model, and what is made of its vectors.

    `pooling`: "cls" is the last layer's vector of [CLS], "mean" its mean over the real tokens,
    [CLS] and [SEP] among them, as sentence-transformers has it; "last4" that mean over the
    last four layers together. `normalise` brings every vector to length 1.
    """

    def __init__(self, found: SavedModel, pooling: str, *, normalise: bool):
        if pooling not in POOLINGS:
            raise InputError(f"--embed={pooling} is not known: {', '.join(POOLINGS)}.")
        self._found = found
        self._pooling = pooling
        self._normalise = normalise
        zeros = jnp.zeros((1, 8), jnp.int32)
        shapes = jax.eval_shape(
            lambda key: Encoder(found.model, None).init(
                key, Tokens(*[zeros] * 4), deterministic=True
            ),
            jax.random.key(0),
        )
        self._params = found.modules({"encoder": shapes["params"]})["encoder"]
        self._embed = jax.jit(self._vectors)

    def __call__(
        self, rows: Sequence[Encoding], *, batch_size: int, max_length: int
    ) -> list[dict[str, Any]]:
        """`{"embedding": [...]}` for every `[CLS] text [SEP]`, in order."""
        vectors = np.zeros((len(rows), self._found.model.width), np.float32)
        pad = self._found.tokenizer.special.pad
        lengths = [len(row.ids) for row in rows]
        for indices in ordered_batches(lengths, batch_size=batch_size):
            length = bucket(max(lengths[i] for i in indices), max_length)
            tokens = pad_tokens([rows[i] for i in indices], batch_size, length, pad)
            vectors[indices] = np.asarray(self._embed(self._params, tokens))[: len(indices)]
        return [{"embedding": vector.tolist()} for vector in vectors]

    def _vectors(self, params: PyTree, tokens: Tokens) -> Float[Array, "B D"]:
        layers = LAYERS if self._pooling == "last4" else 1
        states = last_states(self._found.model, one_device_mesh(), params, tokens, layers)
        states = [state.astype(jnp.float32) for state in states]
        if self._pooling == "cls":
            vectors = states[0][:, 0]
        else:
            is_token = tokens.is_token.astype(jnp.float32)[:, :, None]
            mean = sum(states) / len(states)
            # The rows that fill up a batch hold no token.
            vectors = (mean * is_token).sum(1) / jnp.maximum(is_token.sum(1), 1)
        if self._normalise:
            vectors /= jnp.maximum(jnp.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return vectors
