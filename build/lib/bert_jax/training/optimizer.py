"""Adam and AdamW as optax chains, decay and freezing chosen by parameter path."""

import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree

from bert_jax.config import OptimizerConfig
from bert_jax.training.paths import map_paths
from bert_jax.training.schedules import make_schedule

NOT_DECAYED = r"(bias|scale)$"  # the original's exclude list: LayerNorm, layer_norm, bias


class AdamState(NamedTuple):
    """Running means of the gradient and of its square."""

    mean: PyTree
    square: PyTree


def scale_by_uncorrected_adam(b1: float, b2: float, epsilon: float) -> optax.GradientTransformation:
    """Adam without bias correction: m / (sqrt(v) + epsilon).

    As AdamWeightDecayOptimizer of google-research/bert (optimization.py). Its first
    update has the size 0.1 / sqrt(0.001) = 3.16 whatever the gradient, which is why it
    needs the warm-up. optax.scale_by_adam is the corrected form and has no switch.
    """

    def init(params: PyTree) -> AdamState:
        return AdamState(jax.tree.map(jnp.zeros_like, params), jax.tree.map(jnp.zeros_like, params))

    def update(grads: PyTree, state: AdamState, params: Any = None) -> tuple[PyTree, AdamState]:
        del params
        mean = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mean, grads)
        square = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, state.square, grads)
        updates = jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + epsilon), mean, square)
        return updates, AdamState(mean, square)

    return optax.GradientTransformation(init, update)


def make_optimizer(
    config: OptimizerConfig, *, total_steps: int, frozen: str = ""
) -> tuple[optax.GradientTransformation, optax.Schedule]:
    """Clipping, Adam, decoupled decay, schedule; and the schedule by itself, for the log.

    Parameters whose path matches the regex `frozen` get no update and no Adam state,
    and do not count towards the clipped norm.
    """
    warmup_steps = round(config.warmup_fraction * total_steps)
    schedule = make_schedule(
        config.schedule,
        peak=config.learning_rate,
        warmup_steps=warmup_steps,
        total_steps=total_steps,
    )
    adam = optax.scale_by_adam if config.bias_correction else scale_by_uncorrected_adam
    parts = [adam(config.b1, config.b2, config.epsilon)]
    if config.clip_norm:
        parts.insert(0, optax.clip_by_global_norm(config.clip_norm))
    if config.weight_decay:
        parts.append(optax.add_decayed_weights(config.weight_decay, mask=_is_decayed))
    optimizer = optax.chain(*parts, optax.scale_by_learning_rate(schedule))
    if frozen:
        optimizer = optax.multi_transform(
            {"trained": optimizer, "frozen": optax.set_to_zero()},
            lambda params: map_paths(
                lambda path, _: "frozen" if re.search(frozen, path) else "trained", params
            ),
        )
    return optimizer, schedule


def _is_decayed(params: PyTree) -> PyTree:
    return map_paths(lambda path, _: not re.search(NOT_DECAYED, path), params)
