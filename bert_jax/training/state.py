"""Everything a step changes."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, PyTree

from bert_jax.training.sharding import tree_shardings


class TrainState(NamedTuple):
    """Everything a step reads and writes."""

    step: Int[Array, ""]  # batches read: updates done and updates skipped
    params: PyTree
    optimizer: PyTree
    key: jax.Array  # all randomness derives from it and the step
    # Share of the time budget used, which the loop sets: a schedule by time reads it.
    budget_used: Float[Array, ""]


def init_state(
    init_params: Callable[[jax.Array], PyTree],
    optimizer: optax.GradientTransformation,
    *,
    seed: int,
    prng: str,
    mesh: Mesh,
) -> TrainState:
    """Creates the state already sharded: no device ever holds all of a large model."""
    init = _init(init_params, optimizer)
    key = jax.random.key(seed, impl=prng)
    shardings = tree_shardings(jax.eval_shape(init, key), mesh)
    return jax.jit(init, out_shardings=shardings)(key)


def state_shapes(
    init_params: Callable[[jax.Array], PyTree],
    optimizer: optax.GradientTransformation,
    *,
    prng: str,
    mesh: Mesh,
) -> TrainState:
    """What `init_state` would create, as ShapeDtypeStructs with their shardings."""
    shapes = jax.eval_shape(_init(init_params, optimizer), jax.random.key(0, impl=prng))
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        shapes,
        tree_shardings(shapes, mesh),
    )


def _init(
    init_params: Callable[[jax.Array], PyTree], optimizer: optax.GradientTransformation
) -> Callable[[jax.Array], TrainState]:
    def init(key: jax.Array) -> TrainState:
        init_key, step_key = jax.random.split(key)
        params = init_params(init_key)
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            optimizer=optimizer.init(params),
            key=step_key,
            budget_used=jnp.zeros((), jnp.float32),
        )

    return init
