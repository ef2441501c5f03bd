"""Arithmetic of a training step, by the sizes alone: what utilisation is a share of."""

from bert_jax.config import ModelConfig

# A backward pass multiplies each matrix twice: for the gradient of its input and its own.
FORWARD_PASSES = 3


def training_flops(
    config: ModelConfig,
    *,
    length: int,
    predictions: int,
    instances: int = 1,
    read: float | None = None,
) -> float:
    """Floating-point operations of one row, forward and backward; a multiply-add is two.

    Counted are the matrix products: those with weights, the attention's scores and
    mixtures over the whole row, the vocabulary's at the `predictions` masked places, and
    pooler and next-sentence head of the `instances` in the row. What remat computes again
    is not: it is no progress. Of the last layer's output product and feed-forward counted are
    the `read` tokens, None = all.
    """
    width, hidden, vocab_size = config.width, config.feed_forward, config.vocab_size
    weights = 4 * width * width + 2 * width * hidden
    layer = length * (weights + 2 * length * width)
    masked = width * width + width * vocab_size
    pooled = width * width + 2 * width
    left_out = 0 if read is None else (length - read) * (width * width + 2 * width * hidden)
    multiply_adds = config.layers * layer - left_out + predictions * masked + instances * pooled
    return float(FORWARD_PASSES * 2 * multiply_adds)
