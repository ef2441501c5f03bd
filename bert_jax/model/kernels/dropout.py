"""Dropout masks from the generator of a TPU core.

XLA's own generator draws the bits of the whole batch on every device; this one draws a
device's rows, at the speed of writing them.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Int

from bert_jax.model.kernels.bits import draw_of, is_kept
from bert_jax.model.kernels.work import KernelWork

NAME = "dropout_mask"
MAX_ELEMENTS = 2**20  # of a row, all of which is on chip at once


def fits(*, length: int, width: int) -> bool:
    """Whether a row fills registers of bytes without remainder."""
    return length % 32 == 0 and width % 128 == 0 and length * width <= MAX_ELEMENTS


def mask(
    seed: Int[Array, "3"], rows: int, length: int, width: int, *, dropped: int, interpret: bool
) -> Int[Array, "rows length width"]:
    """1 where an element stays, 0 where it is dropped.

    `seed` is two random words, then the number of the first row in the whole batch.
    """
    return pl.pallas_call(
        functools.partial(_mask, dropped, interpret),
        grid=(rows,),
        in_specs=[pl.BlockSpec(memory_space=pltpu.SMEM)],
        out_specs=pl.BlockSpec((1, length, width), lambda row: (row, 0, 0)),
        out_shape=jax.ShapeDtypeStruct((rows, length, width), jnp.int8),
        name=NAME,
        interpret=interpret,
        compiler_params=pltpu.CompilerParams(dimension_semantics=("arbitrary",)),
    )(seed)


def _mask(dropped, interpret, seed, out):
    draw = draw_of(interpret)
    row = seed[2] + pl.program_id(0)
    out[0] = is_kept(draw, (seed[0], seed[1]), row, 0, out.shape[1:], dropped).astype(jnp.int8)
