"""Everything a step changes."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Int, PyTree

from bert_jax.training.sharding import tree_shardings


class TrainState(NamedTuple):
    """Step (updates done), parameters, optimizer state and the key all steps derive from."""

    step: Int[Array, ""]
    params: PyTree
    optimizer: PyTree
    key: jax.Array


def init_state(
    init_params: Callable[[jax.Array], PyTree],
    optimizer: optax.GradientTransformation,
    *,
    seed: int,
    prng: str,
    mesh: Mesh,
) -> TrainState:
    """Creates the state already sharded: no device ever holds all of a large model."""

    def init(key: jax.Array) -> TrainState:
        init_key, step_key = jax.random.split(key)
        params = init_params(init_key)
        return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params), step_key)

    key = jax.random.key(seed, impl=prng)
    shardings = tree_shardings(jax.eval_shape(init, key), mesh)
    return jax.jit(init, out_shardings=shardings)(key)
