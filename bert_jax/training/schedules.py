"""Learning rate as a function of how far the run is, zero at the end and past it."""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float, Real

from bert_jax.config import OptimizerConfig

Schedule = Callable[[Real[Array, ""]], Float[Array, ""]]


def make_schedule(config: OptimizerConfig, *, total_steps: int) -> Schedule:
    """The rate of the update at `t` of `total_steps`, t counted from 0.

    t need not be whole: a run by time is at the same share of the steps as of its time.

    With W the warm-up steps, all of them rise as peak * t / W. Then, up to total_steps:
      original  peak * (1 - t / total_steps): not offset by the warm-up, so it drops at its
                end (google-research/bert, optimization.py)
      linear    straight down to 0 from the peak (Hugging Face)
      cosine    half a cosine down to 0
      wsd       stays at the peak, then straight down to 0 over the last decay_fraction of
                the steps (warm-up, stable, decay: arXiv:2404.06395)
      constant  stays at the peak, for ever
    """
    warmup_steps = round(config.warmup_fraction * total_steps)
    # Two fractions that add up to 1 may round to a step more than there are.
    decay_steps = min(round(config.decay_fraction * total_steps), total_steps - warmup_steps)

    def schedule(count: Real[Array, ""]) -> Float[Array, ""]:
        t = jnp.asarray(count, jnp.float32)
        steps_left = total_steps - t
        left = jnp.clip(steps_left / max(total_steps - warmup_steps, 1), 0.0, 1.0)
        rate = {
            "original": jnp.clip(1 - t / total_steps, 0.0, 1.0),
            "linear": left,
            "cosine": 0.5 * (1 + jnp.cos(jnp.pi * (1 - left))),
            "wsd": jnp.clip(steps_left / max(decay_steps, 1), 0.0, 1.0),
            "constant": jnp.ones_like(t),
        }[config.schedule]
        warming = t < warmup_steps
        return config.learning_rate * jnp.where(warming, t / max(warmup_steps, 1), rate)

    return schedule
