"""A checksum of every array of a tree, the same however the array lies on its devices."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree, Shaped, UInt32

from bert_jax.training.paths import map_paths


def checksums(tree: PyTree) -> dict[str, UInt32[Array, ""]]:
    """By path; a change of any one element, of whatever bits, always changes its array's.

    Wrap-around sums of integers come out the same in any order, so neither the sharding
    nor the number of devices or processes enters; every process gets every value.
    """
    found: dict[str, Array] = {}

    # An array at a time: one tree may lie on several sets of devices. And each awaited: the
    # sums of a spread array are exchanged, and on CPU devices every program under way holds
    # threads while it waits for the others, which a hundred of them would use up.
    def add(path: str, leaf: Array) -> None:
        found[path] = jax.block_until_ready(_checksum(leaf))

    map_paths(add, tree)
    return found


@jax.jit
def _checksum(array: Shaped[Array, "..."]) -> UInt32[Array, ""]:
    words = _words(array)
    # The index as it would be without sharding: mixed in, so that elements that change
    # places count. Without the mixing the sum of 1024 ones would be that of zeros.
    index = jnp.zeros(words.shape, jnp.uint32)
    stride = 1
    for axis in reversed(range(words.ndim)):
        along = jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis)
        index += along * jnp.uint32(stride % 2**32)
        stride *= words.shape[axis]
    return _mix(words + index * jnp.uint32(0x9E3779B9)).sum(dtype=jnp.uint32)


def _words(array: Shaped[Array, "..."]) -> UInt32[Array, "..."]:
    """The bits of every element; wider ones than 32 become several words."""
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        array = jax.random.key_data(array)
    if array.dtype == jnp.bool_:
        return array.astype(jnp.uint32)
    width = min(array.dtype.itemsize, 4)
    bits = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}[width]
    return jax.lax.bitcast_convert_type(array, bits).astype(jnp.uint32)


def _mix(words: UInt32[Array, "..."]) -> UInt32[Array, "..."]:
    """The finalizer of MurmurHash3, which is one to one: another word is another result."""
    words ^= words >> 16
    words *= jnp.uint32(0x85EBCA6B)
    words ^= words >> 13
    words *= jnp.uint32(0xC2B2AE35)
    return words ^ (words >> 16)
