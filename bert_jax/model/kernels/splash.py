"""The work of splash attention, whose kernels come with jax: counted as that of our own is.

Queries and keys meet in blocks of 128 by 128, one head at a time, which lies alone in registers
of 128 lanes. The vectors of one kind are read again for every block of the other.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from bert_jax.model.kernels.work import KernelWork, Operand, matmul_flops

BLOCK = 128  # tokens, and the lanes of a register


class _Pass(NamedTuple):
    """Of each score, but for the arrays, which are of all tokens of a head."""

    products: int  # in bfloat16; those in float32 are of one pass and counted twice
    exponentials: int
    elementwise: int
    once: int  # arrays read or written once
    again: int  # arrays read once for every block of the others' tokens


# Of each score: mask 2, largest 1, difference 1, the exponential's factor 1, sum 1, conversion 1,
# sums of partial products 1; and as its statistics fill a register for each block of keys: their
# exponential's difference and factor 2, largest 1, sum 2, what is mixed so far scaled 2. The
# second product is one in float32 whatever the inputs are.
_FORWARD = _Pass(products=3, exponentials=2, elementwise=15, once=2, again=2)
# Mask 2, difference 1, factor 1, slopes 2, conversion 1, sums of partial products 3, statistics
# turned 2.
_QUERY = _Pass(products=3, exponentials=1, elementwise=12, once=3, again=2)
# Mask 2, difference 1, factor 1, slopes 2, conversions 2, sums of partial products 4, gradients
# added up 2.
_KEY_VALUE = _Pass(products=4, exponentials=1, elementwise=14, once=4, again=2)

_PASSES = {
    "splash_mha_fwd_segmented_no_residuals": _FORWARD,
    "splash_mha_fwd_segmented_residuals": _FORWARD,
    "splash_mha_dq_segmented_no_residuals": _QUERY,
    "splash_mha_dkv_segmented_no_residuals": _KEY_VALUE,
}


def _work_of(each: _Pass) -> Callable[[Sequence[Operand], int], KernelWork]:
    def work(operands: Sequence[Operand], matrix_unit: int) -> KernelWork:
        (rows, heads, length, head_size), itemsize = operands[2]
        lanes = math.ceil(head_size / BLOCK) * BLOCK
        scores, blocks = rows * heads * length * length, length // BLOCK
        products = each.products * (2 if itemsize == 4 else 1) * rows * heads * blocks * blocks
        statistics = 2 * length * BLOCK * 4  # and the tokens' instances, in float32 and int32
        arrays = (each.once + each.again * blocks) * length * lanes * itemsize
        return KernelWork(
            matmul_flops=matmul_flops(products, (BLOCK, BLOCK, lanes), matrix_unit),
            exponentials=each.exponentials * scores,
            random_words=0,
            elementwise=each.elementwise * scores,
            bytes=rows * heads * (arrays + statistics),
        )

    return work


WORK = {name: _work_of(each) for name, each in _PASSES.items()}
