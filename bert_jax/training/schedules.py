"""Learning rate as a function of the step, zero at the end and past it."""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

Schedule = Callable[[Array], Array]


def make_schedule(config, *, total_steps: int) -> Schedule:
    """The rate of update `t`, t counted from 0.

    All of them rise as peak * t / warmup_steps. Then, up to total_steps:
      original  peak * (1 - t / total_steps): not offset by the warm-up, so it drops at its
                end (google-research/bert, optimization.py)
      linear    straight down to 0 from the peak (Hugging Face)
      cosine    half a cosine down to 0
      constant  stays at the peak, for ever
    """

    name, peak = config.schedule, config.learning_rate
    warmup_steps = round(config.warmup_fraction * total_steps)

    def schedule(count: Array) -> Float[Array, ""]:
        t = jnp.asarray(count, jnp.float32)
        left = jnp.clip((total_steps - t) / max(total_steps - warmup_steps, 1), 0.0, 1.0)
        rate = {
            "original": jnp.clip(1 - t / total_steps, 0.0, 1.0),
            "linear": left,
            "cosine": 0.5 * (1 + jnp.cos(jnp.pi * (1 - left))),
            "wsd": left,
            "constant": jnp.ones_like(t),
        }[name]
        warming = t < warmup_steps
        return peak * jnp.where(warming, t / max(warmup_steps, 1), rate)

    return schedule
