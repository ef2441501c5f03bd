"""Random bits inside a kernel: the same for a (key, row, column), whatever the mesh."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Bool, Int

# Two seeds and a shape -> that many words of 32 random bits.
Draw = Callable[[Any, Any, tuple[int, int]], Int[Array, "rows columns"]]

# A share of dropped elements is met to one in this many: bits are compared 16 at a time.
RESOLUTION = 2**16

# Odd numbers that spread small ones over the words: 2**32 by the golden ratio, and the
# fraction of the root of 2.
GOLDEN, ROOT = 0x9E3779B9 - 2**32, 0x6A09E667


def seed_words(key: jax.Array, count: int) -> Int[Array, "count 2"]:
    """What the kernels take for a key of any generator: so many pairs of words."""
    return jax.lax.bitcast_convert_type(jax.random.bits(key, (count, 2), jnp.uint32), jnp.int32)


def dropped_of(rate: float) -> int:
    """A dropout rate in units of 1 / RESOLUTION."""
    return round(rate * RESOLUTION)


def kept_scale(dropped: int) -> float:
    """What the elements that stay are multiplied by, so that the mean stays too."""
    return RESOLUTION / (RESOLUTION - dropped)


def is_kept(
    draw: Draw,
    seed: tuple[Any, Any],
    row: Any,
    column: Any,
    shape: tuple[int, int],
    dropped: int,
) -> Bool[Array, "rows columns"]:
    """Which elements of a block stay, True with the chance 1 - dropped / RESOLUTION.

    A word serves two elements: its high half one in the upper half of the block, its low
    half the one as far down in the lower half.
    """
    rows, columns = shape
    words = draw(_mix(seed[0] + row * GOLDEN), _mix(seed[1] + column * ROOT), (rows // 2, columns))
    return jnp.concatenate([words, words << 16]) >= _threshold(dropped)


def _threshold(dropped: int) -> int:
    """Signed words are uniform from -2**31 on: a TPU's vector unit compares no unsigned ones."""
    return dropped * RESOLUTION - 2**31


def kept_by_place(key: jax.Array, shape: tuple[int, ...], dropped: int) -> Bool[Array, "..."]:
    """Which elements of an array stay, outside of kernels: by a hash of the key, the row and the
    place in it, on any mesh the same.

    That is arithmetic, which the compiler does where the bits are used. jax's own generators
    fill an array first, which took longer than the attention that they dropped from.
    """
    first, second = seed_words(key, 1)[0]
    place = jnp.zeros(shape, jnp.int32)
    for axis in range(1, len(shape)):
        place = place * shape[axis] + jax.lax.broadcasted_iota(jnp.int32, shape, axis)
    row = jax.lax.broadcasted_iota(jnp.int32, (shape[0], *[1] * (len(shape) - 1)), 0)
    words = _mix(_mix(place * GOLDEN + first) ^ _mix(row * GOLDEN + second))
    return words >= _threshold(dropped)


def draw_of(interpret: bool) -> Draw:
    """The source of random words where kernels are compiled, or are interpreted."""
    return hashed_words if interpret else hardware_words


def hardware_words(first: Any, second: Any, shape: tuple[int, int]) -> Int[Array, "rows columns"]:
    """From the generator of a TPU core."""
    pltpu.prng_seed(first, second)
    return pltpu.prng_random_bits(shape)


def hashed_words(first: Any, second: Any, shape: tuple[int, int]) -> Int[Array, "rows columns"]:
    """By arithmetic alone, where a kernel is interpreted: that has no generator."""
    place = jax.lax.broadcasted_iota(jnp.int32, shape, 0) * shape[1]
    place += jax.lax.broadcasted_iota(jnp.int32, shape, 1)
    return _mix(_mix(place * GOLDEN + first) + second)


def _mix(word: Any) -> Any:
    """A bijection of words in which every bit moves every other (MurmurHash3's last step)."""
    word ^= jax.lax.shift_right_logical(word, 16)
    word *= -2048144789
    word ^= jax.lax.shift_right_logical(word, 13)
    word *= -1028477387
    return word ^ jax.lax.shift_right_logical(word, 16)
