"""Cross-entropy and accuracy as sums with weights."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from bert_jax.training.metrics import Mean, weighted_mean


def cross_entropy(
    logits: Float[Array, "*N V"], labels: Int[Array, "*N"], weights: Float[Array, "*N"]
) -> Mean:
    """Negative log-likelihood of the labels in nats, summed with their weights."""
    logits = logits.astype(jnp.float32)
    cost = jax.nn.logsumexp(logits, axis=-1) - _at_label(logits, labels)
    return weighted_mean(cost, weights)


def accuracy(
    logits: Float[Array, "*N V"], labels: Int[Array, "*N"], weights: Float[Array, "*N"]
) -> Mean:
    """Share of labels whose logit no other exceeds; a tie counts as right.

    Compares with the maximum: argmax takes 30 times as long on a CPU, a tenth of a step.
    """
    return weighted_mean(_at_label(logits, labels) >= jnp.max(logits, axis=-1), weights)


def _at_label(logits: Float[Array, "*N V"], labels: Int[Array, "*N"]) -> Float[Array, "*N"]:
    # A comparison in place of a gather: its gradient fuses with the softmax's, where a
    # gather's is a scatter into a second array of the size of the logits.
    classes = jax.lax.broadcasted_iota(labels.dtype, logits.shape, logits.ndim - 1)
    is_label = classes == labels[..., None]
    return jnp.sum(jnp.where(is_label, logits, 0), axis=-1)
