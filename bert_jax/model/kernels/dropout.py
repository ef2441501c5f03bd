"""Dropout with bits from the generator of a TPU core.

XLA's own generator draws the bits of the whole batch on every device; this one draws those of
a device's rows, in the time that reading and writing the rows takes.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Float, Int

from bert_jax.model.kernels.bits import draw_of, is_kept, kept_scale
from bert_jax.model.kernels.work import KernelWork, Operand

NAME = "dropout"
# Tokens on chip at once, the most of these that divide a row.
TOKENS = (256, 128, 64, 32)
MAX_WIDTH = 4096


def fits(shape: tuple[int, ...]) -> bool:
    """Whether these are rows of tokens that fill blocks without remainder."""
    if len(shape) != 3:
        return False
    _, length, width = shape
    return length % TOKENS[-1] == 0 and width % 128 == 0 and width <= MAX_WIDTH


def drop(
    seed: Int[Array, "3"], x: Float[Array, "B T D"], *, dropped: int, interpret: bool
) -> Float[Array, "B T D"]:
    """`x` with its share of zeros; its gradient is the same of the gradient.

    `seed` is two random words, then the number of the first row in the whole batch.
    """
    rows, length, width = x.shape
    tokens = next(tokens for tokens in TOKENS if length % tokens == 0)
    block = pl.BlockSpec((1, tokens, width), lambda row, part: (row, part, 0))

    def kernel(seed, x, out):
        row, part = seed[2] + pl.program_id(0), pl.program_id(1)
        words = draw_of(interpret)
        kept = is_kept(words, (seed[0], seed[1]), row, part, x.shape[1:], dropped)
        scaled = x[0].astype(jnp.float32) * kept_scale(dropped)
        out[0] = jnp.where(kept, scaled, 0).astype(out.dtype)

    return pl.pallas_call(
        kernel,
        grid=(rows, length // tokens),
        in_specs=[pl.BlockSpec(memory_space=pltpu.SMEM), block],
        out_specs=block,
        out_shape=jax.ShapeDtypeStruct(x.shape, x.dtype),
        name=NAME,
        interpret=interpret,
        compiler_params=pltpu.CompilerParams(dimension_semantics=(pltpu.PARALLEL, pltpu.PARALLEL)),
    )(seed, x)


def work(operands: Sequence[Operand], matrix_unit: int) -> KernelWork:
    """As in bfloat16: for each element, of conversions two, of dropping three and a half."""
    elements = math.prod(operands[1].sizes)
    return KernelWork(
        matmul_flops=0,
        exponentials=0,
        random_words=elements / 2,
        elementwise=5.5 * elements,
        bytes=2 * operands[1].itemsize * elements,
    )
