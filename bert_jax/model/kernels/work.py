"""What a Pallas kernel does, counted by hand."""

import math
from typing import NamedTuple


class Operand(NamedTuple):
    """An array that a call is given, on one chip."""

    sizes: tuple[int, ...]
    itemsize: int  # bytes of a number


class KernelWork(NamedTuple):
    """What one call of a Pallas kernel does on one chip; the compiler has no estimate for it."""

    matmul_flops: float  # multiply-add = 2, see matmul_flops
    exponentials: float
    random_words: float  # of 32 bits, from the hardware generator
    elementwise: float  # other vector operations, on float32 lanes
    bytes: float  # between chip memory and HBM


def matmul_flops(
    products: int, sizes: tuple[int, int, int], *, itemsize: int, matrix_unit: int
) -> int:
    """Of matrix products over three sizes, each filled up to the unit's; in float32, which the
    unit computes in six passes of bfloat16, six times as many."""
    padded = [-(-size // matrix_unit) * matrix_unit for size in sizes]
    return products * 2 * math.prod(padded) * (6 if itemsize == 4 else 1)
