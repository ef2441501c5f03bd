"""What a Pallas kernel does, counted by hand."""

import math
from typing import NamedTuple


class Operand(NamedTuple):
    """An array that a call is given, on one chip."""

    sizes: tuple[int, ...]
    itemsize: int  # bytes of a number


class KernelWork(NamedTuple):
    """What one call of a Pallas kernel does on one chip; the compiler has no estimate for it."""

    matmul_flops: float  # multiply-add = 2; every pass in bfloat16 of one in float32
    exponentials: float
    random_words: float  # of 32 bits, from the hardware generator
    elementwise: float  # other vector operations, on float32 lanes
    bytes: float  # between chip memory and HBM


def matmul_flops(products: int, sizes: tuple[int, int, int], matrix_unit: int) -> int:
    """Of matrix products over three sizes, each filled up to the unit's."""
    padded = [math.ceil(size / matrix_unit) * matrix_unit for size in sizes]
    return products * 2 * math.prod(padded)
