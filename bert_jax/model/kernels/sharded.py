"""The kernels on a mesh: each device runs them on its own rows and heads.

A Pallas call is opaque to the partitioner, so it stands inside `shard_map`. Random bits are
drawn by the numbers that rows and heads have in the whole batch: any mesh draws the same.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, Int

from bert_jax.arrays import HEAD_AXIS, ROW_AXES
from bert_jax.model.kernels import add_norm, attention, dropout
from bert_jax.model.kernels.bits import dropped_of, seed_words


def fused_attention(
    query: Float[Array, "B T D"],
    key: Float[Array, "B T D"],
    value: Float[Array, "B T D"],
    biases: Float[Array, "3 D"],
    instances: Int[Array, "B T"],
    *,
    heads: int,
    rate: float,
    random_key: Any,
    mesh: Mesh,
    interpret: bool,
) -> Float[Array, "B T D"]:
    """Attention within instances, in one kernel forward and one backward.

    The biases are added to query, key and value here, because then their gradients, which are
    sums over tokens, cost nothing beside the rest of the backward kernel. `random_key` may be
    None where `rate` is 0. `interpret` computes the same without a TPU, slowly, and with other
    random bits.
    """
    plan = attention.Plan(query.shape[-1] // heads, dropped_of(rate), interpret)
    words = jnp.zeros((plan.heads, 2), jnp.int32)
    if random_key is not None:
        words = seed_words(random_key, plan.heads)
    return _attend(_Call(plan, mesh), words, instances[:, None], query, key, value, biases)


def drop(
    x: Float[Array, "B T D"], *, rate: float, random_key: Any, mesh: Mesh, interpret: bool
) -> Float[Array, "B T D"]:
    """Dropout, drawn by the rows' own devices."""
    return _drop((dropped_of(rate), interpret, mesh), seed_words(random_key, 1)[0], x)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _drop(call, words, x):
    dropped, interpret, mesh = call

    def part(words, x):
        seed = jnp.concatenate([words, _first_row(len(x))])
        return dropout.drop(seed, x, dropped=dropped, interpret=interpret)

    rows = PartitionSpec(ROW_AXES)
    spread = jax.shard_map(
        part, mesh=mesh, in_specs=(PartitionSpec(), rows), out_specs=rows, check_vma=False
    )
    return spread(words, x)


_drop.defvjp(
    lambda call, words, x: (_drop(call, words, x), words),
    lambda call, words, gradient: (None, _drop(call, words, gradient)),
)


def add_norm_of(
    x: Float[Array, "B T D"],
    update: Float[Array, "B T D"],
    update_bias: Float[Array, "D"],
    scale: Float[Array, "D"],
    bias: Float[Array, "D"],
    *,
    epsilon: float,
    rate: float,
    random_key: Any,
    mesh: Mesh,
    interpret: bool,
) -> Float[Array, "B T D"]:
    """LayerNorm(x + dropout(update + update_bias)), in one kernel forward and one backward."""
    plan = add_norm.Plan(epsilon, dropped_of(rate), interpret)
    words = jnp.zeros(2, jnp.int32) if random_key is None else seed_words(random_key, 1)[0]
    vectors = (vector[None] for vector in (update_bias, scale, bias))
    return _add_norm((plan, mesh), words, x, update, *vectors)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _add_norm(call, words, x, update, update_bias, scale, bias):
    return _add_norm_forward(call, words, x, update, update_bias, scale, bias)[0]


def _add_norm_forward(call, words, x, update, update_bias, scale, bias):
    plan, mesh = call

    def part(words, x, *others):
        seed = jnp.concatenate([words, _first_row(len(x))])
        return tuple(add_norm.forward(plan, seed, x, *others))

    rows, whole = PartitionSpec(ROW_AXES), PartitionSpec()
    spread = jax.shard_map(
        part,
        mesh=mesh,
        in_specs=(whole, rows, rows, whole, whole, whole),
        out_specs=(rows, rows),
        check_vma=False,
    )
    out, total = spread(words, x, update, update_bias, scale, bias)
    return out, (words, total, scale)


def _add_norm_backward(call, kept, gradient):
    plan, mesh = call

    def part(words, total, gradient, scale):
        seed = jnp.concatenate([words, _first_row(len(total))])
        return tuple(add_norm.backward(plan, seed, total, gradient, scale))

    rows, whole = PartitionSpec(ROW_AXES), PartitionSpec()
    spread = jax.shard_map(
        part,
        mesh=mesh,
        in_specs=(whole, rows, rows, whole),
        out_specs=(rows,) * 5,
        check_vma=False,
    )
    words, total, scale = kept
    of_x, of_update, *of_vectors = spread(words, total, gradient, scale)
    return None, of_x, of_update, *(vector.sum(axis=0) for vector in of_vectors)


_add_norm.defvjp(_add_norm_forward, _add_norm_backward)


@dataclasses.dataclass(frozen=True)
class _Call:
    # Not a NamedTuple, which jax would look into.

    plan: attention.Plan
    mesh: Mesh

    def spread(self, function, width: int, arguments: str, results: str):
        """`function` on each device's part of what its letters stand for.

        "d": heads lie along the last of three dimensions, "h": along the second, "b": along
        the last of two without rows, "r": there are rows only. Heads that do not divide over
        their axis are computed by all of it.
        """
        blocks = width // attention.LANES
        over = HEAD_AXIS if blocks % self.mesh.shape[HEAD_AXIS] == 0 else None
        specs = {
            "d": PartitionSpec(ROW_AXES, None, over),
            "h": PartitionSpec(ROW_AXES, over),
            "b": PartitionSpec(None, over),
            "r": PartitionSpec(ROW_AXES),
        }

        def part(words, instances, query, *others):
            block = 0 if over is None else jax.lax.axis_index(over) * query.shape[-1]
            first_block = jnp.full(1, block // attention.LANES, jnp.int32)
            first = jnp.concatenate([_first_row(len(query)), first_block])
            seed = jnp.concatenate([words, jnp.tile(first, (len(words), 1))], axis=1)
            return tuple(function(self.plan, seed, instances, query, *others))

        return jax.shard_map(
            part,
            mesh=self.mesh,
            in_specs=(PartitionSpec(), *(specs[letter] for letter in arguments)),
            out_specs=tuple(specs[letter] for letter in results),
            check_vma=False,
        )


def _first_row(rows: int) -> Int[Array, "1"]:
    return jnp.full(1, jax.lax.axis_index(ROW_AXES) * rows, jnp.int32)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(call: _Call, words, instances, *inputs):
    return _attend_forward(call, words, instances, *inputs)[0]


def _attend_forward(call, words, instances, query, *others):
    inputs = (words, instances, query, *others)
    forward = call.spread(attention.forward, query.shape[-1], "rdddb", "dh")
    out, log_sum = forward(*inputs)
    return out, (*inputs, out, log_sum)


def _attend_backward(call, kept, out_gradient):
    backward = call.spread(attention.backward, out_gradient.shape[-1], "rdddbdhd", "dddd")
    *gradients, of_biases = backward(*kept, out_gradient)
    return None, None, *gradients, of_biases.sum(axis=0)


_attend.defvjp(_attend_forward, _attend_backward)
