"""LayerNorm of a sum whose second part is dropped out, as TPU kernels.

The chip computes all of it while it waits for its memory, so that each of the two passes
costs what reading its inputs and writing its results does. XLA makes several passes of either,
one for each mean.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Float, Int

from bert_jax.model.kernels.bits import draw_of, is_kept, kept_scale
from bert_jax.model.kernels.work import KernelWork, Operand

FORWARD, BACKWARD = "add_norm_forward", "add_norm_backward"
# Tokens on chip at once, the most of these that divide a row.
TOKENS = (256, 128, 64, 32)
MAX_WIDTH = 2048


@dataclasses.dataclass(frozen=True)
class Plan:
    """What does not change from call to call."""

    epsilon: float
    dropped: int  # share of the update set to 0, in units of 1 / RESOLUTION
    interpret: bool


def fits(shape: tuple[int, int, int]) -> bool:
    """Whether rows fill blocks without remainder."""
    _, length, width = shape
    return length % TOKENS[-1] == 0 and width % 128 == 0 and width <= MAX_WIDTH


def forward(
    plan: Plan,
    seed: Int[Array, "3"],
    x: Float[Array, "B T D"],
    update: Float[Array, "B T D"],
    update_bias: Float[Array, "1 D"],
    scale: Float[Array, "1 D"],
    bias: Float[Array, "1 D"],
) -> tuple[Float[Array, "B T D"], Float[Array, "B T D"]]:
    """LayerNorm(x + dropout(update + update_bias)), and the sum it is of.

    `seed` is two random words, then the number of the first row in the whole batch.
    """
    block, _ = _blocks(x.shape)
    vector = pl.BlockSpec(scale.shape, lambda row, part: (0, 0))
    return pl.pallas_call(
        functools.partial(_forward, plan),
        grid=_grid(x.shape),
        in_specs=[_SEED, block, block, vector, vector, vector],
        out_specs=[block, block],
        out_shape=[jax.ShapeDtypeStruct(x.shape, x.dtype)] * 2,
        name=FORWARD,
        interpret=plan.interpret,
        compiler_params=_FORWARD_ORDER,
    )(seed, x, update, update_bias, scale, bias)


def backward(
    plan: Plan,
    seed: Int[Array, "3"],
    total: Float[Array, "B T D"],
    gradient: Float[Array, "B T D"],
    scale: Float[Array, "1 D"],
) -> tuple[
    Float[Array, "B T D"],
    Float[Array, "B T D"],
    Float[Array, "B 1 D"],
    Float[Array, "B 1 D"],
    Float[Array, "B 1 D"],
]:
    """The gradients of x and update, and row by row of the update's bias, scale and bias."""
    block, of_row = _blocks(total.shape)
    rows, _, width = total.shape
    of_rows = jax.ShapeDtypeStruct((rows, 1, width), jnp.float32)
    return pl.pallas_call(
        functools.partial(_backward, plan),
        grid=_grid(total.shape),
        in_specs=[_SEED, block, block, pl.BlockSpec(scale.shape, lambda row, part: (0, 0))],
        out_specs=[block, block, of_row, of_row, of_row],
        out_shape=[jax.ShapeDtypeStruct(total.shape, total.dtype)] * 2 + [of_rows] * 3,
        name=BACKWARD,
        interpret=plan.interpret,
        compiler_params=_BACKWARD_ORDER,
    )(seed, total, gradient, scale)


def forward_work(operands: Sequence[Operand], matrix_unit: int) -> KernelWork:
    """With dropout, as in bfloat16: of each element conversions 5, bias 1, dropout 3.5, sum 1,
    mean 2, deviation 3, scale and bias 3."""
    return _work(operands, 18.5)


def backward_work(operands: Sequence[Operand], matrix_unit: int) -> KernelWork:
    """With dropout, as in bfloat16: of each element conversions 4, mean and deviation 6, the three
    vectors' gradients 4, slopes 8, dropout 3.5."""
    return _work(operands, 25.5)


def _work(operands: Sequence[Operand], operations: float) -> KernelWork:
    """Both passes read two arrays and write two."""
    elements = math.prod(operands[1].sizes)
    return KernelWork(
        matmul_flops=0,
        exponentials=0,
        random_words=elements / 2,
        elementwise=operations * elements,
        bytes=4 * operands[1].itemsize * elements,
    )


_SEED = pl.BlockSpec(memory_space=pltpu.SMEM)
# A chip's two cores share the rows. The backward pass sums over a row's parts in turn.
_FORWARD_ORDER = pltpu.CompilerParams(dimension_semantics=(pltpu.PARALLEL, pltpu.PARALLEL))
_BACKWARD_ORDER = pltpu.CompilerParams(dimension_semantics=(pltpu.PARALLEL, pltpu.ARBITRARY))


def _grid(shape: tuple[int, int, int]) -> tuple[int, int]:
    rows, length, _ = shape
    return rows, length // _tokens(length)


def _tokens(length: int) -> int:
    return next(tokens for tokens in TOKENS if length % tokens == 0)


def _blocks(shape: tuple[int, int, int]) -> tuple[pl.BlockSpec, pl.BlockSpec]:
    """Tokens of a row, and a vector of the row."""
    _, length, width = shape
    return (
        pl.BlockSpec((1, _tokens(length), width), lambda row, part: (row, part, 0)),
        pl.BlockSpec((1, 1, width), lambda row, part: (row, 0, 0)),
    )


def _forward(plan, seed, x, update, update_bias, scale, bias, out, total):
    update = update[0].astype(jnp.float32) + update_bias[...]
    if plan.dropped:
        update = jnp.where(_kept(plan, seed, update.shape), update * kept_scale(plan.dropped), 0)
    # Rounded before anything is made of it, as the backward pass finds it.
    summed = (x[0].astype(jnp.float32) + update).astype(total.dtype)
    total[0] = summed
    centred, deviation = _normalised(plan, summed)
    out[0] = (centred * deviation * scale[...] + bias[...]).astype(out.dtype)


def _backward(
    plan,
    seed,
    total,
    gradient,
    scale,
    x_gradient,
    update_gradient,
    of_update_bias,
    of_scale,
    of_bias,
):
    centred, deviation = _normalised(plan, total[0])
    normal = centred * deviation
    gradient = gradient[0].astype(jnp.float32)

    @pl.when(pl.program_id(1) == 0)
    def _():
        of_update_bias[...] = jnp.zeros_like(of_update_bias)
        of_scale[...] = jnp.zeros_like(of_scale)
        of_bias[...] = jnp.zeros_like(of_bias)

    of_scale[0] += jnp.sum(gradient * normal, axis=0, keepdims=True)
    of_bias[0] += jnp.sum(gradient, axis=0, keepdims=True)
    slope = gradient * scale[...]
    mean = jnp.mean(slope, axis=1, keepdims=True)
    along = jnp.mean(slope * normal, axis=1, keepdims=True)
    slope = (slope - mean - normal * along) * deviation
    x_gradient[0] = slope.astype(x_gradient.dtype)
    if plan.dropped:
        slope = jnp.where(_kept(plan, seed, slope.shape), slope * kept_scale(plan.dropped), 0)
    update_gradient[0] = slope.astype(update_gradient.dtype)
    of_update_bias[0] += jnp.sum(slope, axis=0, keepdims=True)


def _normalised(plan, total):
    """Distance from the mean, and one over the standard deviation."""
    total = total.astype(jnp.float32)
    centred = total - jnp.mean(total, axis=1, keepdims=True)
    variance = jnp.mean(centred * centred, axis=1, keepdims=True)
    return centred, jax.lax.rsqrt(variance + plan.epsilon)


def _kept(plan, seed, shape):
    row, part = seed[2] + pl.program_id(0), pl.program_id(1)
    draw = draw_of(plan.interpret)
    return is_kept(draw, (seed[0], seed[1]), row, part, shape, plan.dropped)
