"""What a Pallas kernel does, counted by hand."""

from typing import NamedTuple


class KernelWork(NamedTuple):
    """What one call of a Pallas kernel does on one chip; the compiler has no estimate for it."""

    matmul_flops: float  # multiply-add = 2, shapes padded to the 128 x 128 unit
    exponentials: float
    random_words: float  # of 32 bits, from the hardware generator
    elementwise: float  # other vector operations, on float32 lanes
    bytes: float  # between chip memory and HBM
