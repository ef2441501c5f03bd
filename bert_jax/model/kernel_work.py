"""What the model's Pallas kernels do in a call: the compiler has no estimate for them."""

from collections.abc import Callable, Sequence
from typing import NamedTuple


class KernelWork(NamedTuple):
    """What one call of a Pallas kernel does on one chip; the compiler has no estimate for it."""

    matmul_flops: float  # multiply-add = 2, shapes padded to the unit as the kernel feeds it
    exponentials: float
    random_words: float  # of 32 bits, from the hardware generator
    elementwise: float  # other vector operations, on float32 lanes
    bytes: float  # between chip memory and HBM


# By the kernel's name, from the shapes of its operands.
KERNELS: dict[str, Callable[[Sequence[tuple[int, ...]]], KernelWork]] = {}
