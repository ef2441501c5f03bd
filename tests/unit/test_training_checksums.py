"""One number an array: any change of it shows, and how it is spread does not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from bert_jax.training.checksums import checksums


def checksum(array):
    return int(checksums({"a": array})["a"])


def by_hand(words):
    """The sum with Python's integers."""
    total = 0
    for index, word in enumerate(np.asarray(words).ravel().tolist()):
        word = (word + index * 0x9E3779B9) % 2**32
        word ^= word >> 16
        word = word * 0x85EBCA6B % 2**32
        word ^= word >> 13
        word = word * 0xC2B2AE35 % 2**32
        total += word ^ (word >> 16)
    return total % 2**32


def random_array(dtype, shape=(6, 8)):
    rng = np.random.default_rng(0)
    if dtype == "bool":
        return jnp.asarray(rng.integers(2, size=shape), bool)
    if dtype.startswith(("int", "uint")):
        return jnp.asarray(rng.integers(100, size=shape), dtype)
    return jnp.asarray(rng.normal(size=shape), dtype)


def test_by_hand():
    words = np.random.default_rng(1).integers(2**32, size=(3, 4, 5), dtype=np.uint32)
    assert checksum(jnp.asarray(words)) == by_hand(words)
    assert checksum(jnp.asarray(words).view(jnp.float32)) == by_hand(words)
    half = jnp.asarray([1.5, -2.0], jnp.bfloat16)
    assert checksum(half) == by_hand([0x3FC0, 0xC000])
    key = jax.random.key(7)
    assert checksum(key) == by_hand(jax.random.key_data(key))
    assert checksum(jnp.int32(-1)) == by_hand([2**32 - 1])  # a scalar
    assert checksum(jnp.zeros((0, 3))) == 0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32", "int8", "bool", "float16"])
def test_every_bit_of_every_element_counts(dtype):
    array = random_array(dtype)
    right = checksum(array)
    content = np.asarray(array).tobytes()
    size = array.dtype.itemsize
    for byte in range(len(content)):
        for bit in (0,) if dtype == "bool" else (0, 7):
            changed = bytearray(content)
            changed[byte] ^= 1 << bit
            other = np.frombuffer(bytes(changed), np.asarray(array).dtype).reshape(array.shape)
            assert checksum(jnp.asarray(other)) != right, (byte // size, bit)


def test_what_is_likely_to_happen_to_a_disk():
    # A chunk that is gone reads as zeros; a plain sum, even one weighted with odd numbers,
    # takes a power of two of ones for zeros.
    for size in (32, 1024, 4096):
        ones = jnp.ones(size)
        assert (
            len({checksum(ones), checksum(jnp.zeros(size)), checksum(ones.at[: size // 2].set(0))})
            == 3
        )
    array = random_array("float32")
    swapped = array.at[0].set(array[1]).at[1].set(array[0])
    assert checksum(swapped) != checksum(array)
    assert checksum(array.at[0, 0].set(-0.0)) != checksum(array.at[0, 0].set(0.0))


@pytest.mark.parametrize(
    "spec", [(), ("x",), (None, "x"), ("x", "y"), (("x", "y"),), (None, ("y", "x"))], ids=str
)
def test_the_same_on_any_number_of_devices(spec):
    mesh = Mesh(np.asarray(jax.devices()).reshape(2, 4), ("x", "y"))
    array = random_array("float32", (16, 24))
    key = jax.random.key(3)
    tree = {
        "array": jax.device_put(array, NamedSharding(mesh, PartitionSpec(*spec))),
        "alone": jax.device_put(array, SingleDeviceSharding(jax.devices()[5])),
        "key": jax.device_put(key, NamedSharding(mesh, PartitionSpec())),
    }
    found = checksums(tree)
    assert all(value.is_fully_replicated for value in found.values())
    assert int(found["array"]) == int(found["alone"]) == by_hand(np.asarray(array).view(np.uint32))
    assert int(found["key"]) == checksum(key)


def test_a_tree_is_told_by_path():
    tree = {"a": {"kernel": jnp.ones(3)}, "b": (jnp.zeros(2), jnp.ones(3))}
    found = {path: int(value) for path, value in checksums(tree).items()}
    assert found.keys() == {"a/kernel", "b/0", "b/1"}
    assert found["a/kernel"] == found["b/1"] != found["b/0"]
