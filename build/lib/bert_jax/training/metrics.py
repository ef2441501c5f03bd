"""Metrics as a total beside its weight, so that sums over batches and devices stay exact."""

from collections.abc import Mapping
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped


class Mean(NamedTuple):
    """A sum and what to divide it by, once, at the very end."""

    total: Float[Array, ""] | float
    weight: Float[Array, ""] | float


def weighted_mean(values: Shaped[Array, "*N"], weights: Shaped[Array, "*N"]) -> Mean:
    """The two sums over all elements, in float32."""
    weights = weights.astype(jnp.float32)
    return Mean(jnp.sum(values * weights), jnp.sum(weights))


def add(total: Mapping[str, Mean], means: Mapping[str, Mean]) -> dict[str, Mean]:
    """Adds on the host in float64: a long evaluation sums millions of values.

    An empty `total` is the start.
    """
    zero = Mean(0.0, 0.0)
    return {
        name: Mean(
            total.get(name, zero).total + float(mean.total),
            total.get(name, zero).weight + float(mean.weight),
        )
        for name, mean in means.items()
    }


def divide(means: Mapping[str, Mean]) -> dict[str, float]:
    """Total over weight; nan for a metric that nothing counted for."""
    return {
        name: float(mean.total / mean.weight) if mean.weight else float("nan")
        for name, mean in means.items()
    }
