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
    label_logits = jnp.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
    return weighted_mean(jax.nn.logsumexp(logits, axis=-1) - label_logits, weights)


def accuracy(
    logits: Float[Array, "*N V"], labels: Int[Array, "*N"], weights: Float[Array, "*N"]
) -> Mean:
    """Share of labels whose logit no other exceeds; a tie counts as right.

    Compares with the maximum: argmax takes 30 times as long on a CPU, a tenth of a step.
    """
    label_logits = jnp.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
    return weighted_mean(label_logits >= jnp.max(logits, axis=-1), weights)
