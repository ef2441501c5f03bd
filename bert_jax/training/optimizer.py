"""Adam, AdamW and LAMB as optax chains, decay and freezing chosen by parameter path."""

import functools
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree

from bert_jax.config import OptimizerConfig
from bert_jax.training.paths import map_paths


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


class Moves(NamedTuple):
    """Which parameters move, and how far beside the others; "" and () = as the others.

    Regexes of paths: `frozen` get an update of 0 and no Adam state, and do not count towards
    the clipped norm; an update is multiplied by the number of the first regex of `rates` that
    matches; `held` get an update of 0 in the first `held_updates`, with an Adam state.
    """

    frozen: str = ""
    rates: tuple[tuple[str, float], ...] = ()
    held: str = ""
    held_updates: int = 0


ALIKE = Moves()


class HoldState(NamedTuple):
    """How many updates were made."""

    count: Int[Array, ""]


def make_optimizer(config: OptimizerConfig, moves: Moves = ALIKE) -> optax.GradientTransformation:
    """Clipping, Adam, decoupled decay and, of LAMB, the trust ratio.

    The updates are what the caller subtracts times the learning rate. The rate is not in
    here, so that nothing but the caller's schedule says how far the run is.
    """
    adam = optax.scale_by_adam if config.bias_correction else scale_by_uncorrected_adam
    parts = [adam(config.b1, config.b2, config.epsilon)]
    if config.clip_norm:
        parts.insert(0, optax.clip_by_global_norm(config.clip_norm))
    decayed = functools.partial(_decayed, config.not_decayed)
    if config.weight_decay:
        parts.append(optax.add_decayed_weights(config.weight_decay, mask=decayed))
    if config.name == "lamb":
        # |parameter| / |update| of each tensor, and 1 where either is 0. What is not decayed
        # has no ratio either, as in ALBERT's LAMBOptimizer (google-research/albert,
        # lamb_optimizer.py). The paper is arXiv:1904.00962.
        parts.append(optax.masked(optax.scale_by_trust_ratio(), decayed))
    optimizer = optax.chain(*parts)
    if moves.frozen:
        optimizer = optax.multi_transform(
            {"trained": optimizer, "frozen": optax.set_to_zero()},
            lambda params: map_paths(
                lambda path, _: "frozen" if re.search(moves.frozen, path) else "trained", params
            ),
        )
    # Last: they are parts of the rate, and in front of Adam they would cancel out.
    if moves.rates:
        optimizer = optax.chain(optimizer, _scale(moves.rates))
    if moves.held:
        optimizer = optax.chain(optimizer, _hold(moves.held, moves.held_updates))
    return optimizer


def _scale(rates: tuple[tuple[str, float], ...]) -> optax.GradientTransformation:
    def scaled(path: str, update: Array) -> Array:
        return update * next((rate for regex, rate in rates if re.search(regex, path)), 1.0)

    return optax.stateless(lambda updates, _: map_paths(scaled, updates))


def _hold(held: str, updates: int) -> optax.GradientTransformation:
    def init(params: PyTree) -> HoldState:
        del params
        return HoldState(jnp.zeros((), jnp.int32))

    def update(found: PyTree, state: HoldState, params: Any = None) -> tuple[PyTree, HoldState]:
        del params
        part = (state.count >= updates).astype(jnp.float32)
        found = map_paths(lambda path, u: u * part if re.search(held, path) else u, found)
        return found, HoldState(state.count + 1)

    return optax.GradientTransformation(init, update)


def _decayed(not_decayed: str, params: PyTree) -> PyTree:
    # The empty regex would match every path.
    return map_paths(lambda path, _: not (not_decayed and re.search(not_decayed, path)), params)
