"""The TPU kernels, interpreted: each against plain arithmetic, its dropout against itself."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas import tpu as pltpu
from jax.extend import core

from bert_jax.config import MeshConfig
from bert_jax.model.kernel_work import OWN
from bert_jax.model.kernels import bits
from bert_jax.model.kernels.sharded import add_norm_of, drop, fused_attention
from bert_jax.training.sharding import make_mesh

MESHES = {"1": (1, 1, 1), "8": (2, 2, 2)}
TOLERANCE = dict(rtol=1e-5, atol=1e-5)
KEY = 7


def mesh_of(name):
    sizes = MESHES[name]
    return make_mesh(MeshConfig(*sizes), jax.devices()[: math.prod(sizes)])


def packed(rows, length):
    """Instances of several lengths and padding; the second row is nothing but padding."""
    instances = np.zeros((rows, length), np.int32)
    for row in range(rows):
        starts = np.arange(length) >= np.array([[0], [length // 3 + row], [length // 2 + 9 * row]])
        instances[row] = starts.sum(axis=0)
        instances[row, length - 10 - row :] = 0
    instances[1] = 0
    return jnp.asarray(instances)


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def attention_inputs(rows, length, heads, head_size):
    width = heads * head_size
    projected = [normal(rows, length, width, seed=seed) for seed in range(3)]
    return (*projected, normal(3, width, seed=3)), packed(rows, length)


def fused(instances, heads, rate, seed, mesh, *inputs):
    key = jax.random.key(seed) if rate else None
    return fused_attention(
        *inputs, instances, heads=heads, rate=rate, random_key=key, mesh=mesh, interpret=True
    )


def plain(instances, heads, *inputs, kept=1.0):
    """`kept` multiplies the probabilities."""
    query, key, value, biases = inputs
    rows, length, _ = query.shape
    apart = [
        (x + bias).reshape(rows, length, heads, -1)
        for x, bias in zip((query, key, value), biases[:, None, None], strict=True)
    ]
    scores = jnp.einsum("BqHK,BkHK->BHqk", *apart[:2], precision="highest")
    scores *= apart[0].shape[-1] ** -0.5
    is_visible = (instances[:, :, None] == instances[:, None]) & (instances[:, None] > 0)
    # Where nothing is visible softmax divides by 0: such rows are set to 0 afterwards.
    scores = jnp.where(is_visible[:, None], scores, -1e30)
    weights = jax.nn.softmax(scores, axis=-1) * is_visible[:, None] * kept
    mixed = jnp.einsum("BHqk,BkHK->BqHK", weights, apart[2], precision="highest")
    return mixed.reshape(query.shape)


def value_and_gradients(function, inputs):
    @jax.jit
    def both(*inputs):
        out, pull = jax.vjp(function, *inputs)
        return out, pull(normal(*out.shape, seed=9).astype(out.dtype))

    return jax.device_get(both(*inputs))


def assert_same(ours, theirs, **tolerance):
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, **tolerance or TOLERANCE), ours, theirs
    )


def assert_same_attention(ours, theirs):
    (out, gradients), (expected, expected_gradients) = ours, theirs
    assert_same((out, gradients[:3]), (expected, expected_gradients[:3]))
    # The biases' are sums over all tokens, which add their rounding up; the key's is 0 but for it.
    assert_same(gradients[3], expected_gradients[3], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("length", "heads", "head_size"), [(128, 2, 64), (512, 2, 64), (128, 4, 32), (256, 1, 128)]
)
def test_fused_attention_and_its_gradients_are_those_of_plain_attention(length, heads, head_size):
    inputs, instances = attention_inputs(3, length, heads, head_size)
    one = mesh_of("1")
    ours = value_and_gradients(functools.partial(fused, instances, heads, 0.0, KEY, one), inputs)
    theirs = value_and_gradients(functools.partial(plain, instances, heads), inputs)
    assert_same_attention(ours, theirs)
    padding = np.asarray(instances) == 0
    assert (ours[0][padding] == 0).all()
    assert all((gradient[1] == 0).all() for gradient in ours[1][:3])  # the row of padding


def test_fused_attention_in_bfloat16_stays_close():
    inputs, instances = attention_inputs(2, 128, 2, 64)
    half = [x.astype(jnp.bfloat16) for x in inputs[:3]] + [inputs[3]]
    run = functools.partial(fused, instances, 2, 0.0, KEY, mesh_of("1"))
    out, gradients = value_and_gradients(run, half)
    assert {out.dtype, *(g.dtype for g in gradients[:3])} == {jnp.dtype("bfloat16")}
    exact = value_and_gradients(run, [x.astype(jnp.float32) for x in half])
    for ours, theirs in zip((out, *gradients), (exact[0], *exact[1]), strict=True):
        error = np.abs(ours.astype(np.float32) - theirs).max()
        assert 0 < error < 0.02 * np.abs(theirs).max()  # bfloat16 has 8 bits


def kept_by_fused(rate, seed, *, rows=2, heads=1, mesh="1"):
    """[row, head, query, key]: what is left of equal probabilities, times the length."""
    length = 128
    zeros = jnp.zeros((rows, length, heads * length))
    value = jnp.tile(jnp.eye(length), (rows, 1, heads))
    instances = jnp.ones((rows, length), jnp.int32)
    run = jax.jit(functools.partial(fused, instances, heads, rate, seed, mesh_of(mesh)))
    out = run(zeros, zeros, value, jnp.zeros((3, heads * length)))
    return np.asarray(out).reshape(rows, length, heads, length).swapaxes(1, 2) * length


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_attention_dropout_meets_its_rate(rate):
    kept = kept_by_fused(rate, KEY)
    assert abs((kept == 0).mean() - rate) < 4.5 * math.sqrt(rate * (1 - rate) / kept.size)
    np.testing.assert_allclose(kept[kept > 0], 1 / (1 - rate), rtol=1e-4)
    # Queries and keys are drawn for one by one, in both halves of the words.
    for axis in (2, 3):
        spread = (kept == 0).mean(axis).std()
        assert spread == pytest.approx(math.sqrt(rate * (1 - rate) / 128), rel=0.2)
    assert abs(np.corrcoef(kept[..., :64].ravel(), kept[..., 64:].ravel())[0, 1]) < 0.03


def test_attention_dropout_is_another_for_key_row_and_head():
    kept = kept_by_fused(0.5, KEY, heads=2)
    np.testing.assert_array_equal(kept, kept_by_fused(0.5, KEY, heads=2))
    others = [kept_by_fused(0.5, KEY + 1, heads=2), kept[::-1], kept[:, ::-1]]
    for other in others:
        assert (kept == other).mean() == pytest.approx(0.5, abs=0.02)


def test_the_backward_pass_drops_what_the_forward_pass_dropped():
    rate, heads = 0.3, 2
    inputs, instances = attention_inputs(2, 128, heads, 64)
    one = mesh_of("1")
    # A value that is one in one lane of a head, per block of keys, shows what it left of a key.
    kept = []
    for start in range(0, 128, 64):
        value = np.zeros((2, 128, heads, 64), np.float32)
        value[:, np.arange(start, start + 64), :, np.arange(64)] = 1
        zeros = jnp.zeros((2, 128, heads * 64))
        shown = fused(
            jnp.ones_like(instances), heads, rate, KEY, one,
            *(zeros, zeros, jnp.asarray(value.reshape(2, 128, -1)), jnp.zeros((3, heads * 64))),
        )  # fmt: skip
        kept.append(np.asarray(shown).reshape(2, 128, heads, 64).swapaxes(1, 2) * 128)
    kept = jnp.asarray(np.concatenate(kept, axis=-1))
    assert (np.asarray(kept) == 0).mean() == pytest.approx(rate, abs=0.02)
    ours = value_and_gradients(functools.partial(fused, instances, heads, rate, KEY, one), inputs)
    reference = functools.partial(plain, instances, heads, kept=kept)
    assert_same(ours, value_and_gradients(reference, inputs), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("mesh", "heads"), [("8", 4), ("8", 2)])
def test_attention_on_a_mesh_is_that_of_one_device_dropout_included(mesh, heads):
    # Two heads are one block, which does not divide over two devices.
    inputs, instances = attention_inputs(8, 128, heads, 64)
    run = functools.partial(fused, instances, heads, 0.2, KEY)
    ours, theirs = (
        value_and_gradients(functools.partial(run, mesh_of(name)), inputs) for name in (mesh, "1")
    )
    assert_same_attention(ours, theirs)


def add_norm_inputs(rows=8, length=64, width=128):
    x, update = normal(rows, length, width), normal(rows, length, width, seed=1)
    return x, update, *(normal(width, seed=seed) for seed in (2, 3, 4))


def add_norm(rate, mesh, *inputs, seed=KEY):
    key = jax.random.key(seed) if rate else None
    return add_norm_of(
        *inputs, epsilon=1e-3, rate=rate, random_key=key, mesh=mesh_of(mesh), interpret=True
    )


def plain_add_norm(x, update, update_bias, scale, bias, kept=1.0):
    total = x + kept * (update + update_bias[None, None])
    centred = total - total.mean(axis=-1, keepdims=True)
    variance = (centred**2).mean(axis=-1, keepdims=True)
    return centred / jnp.sqrt(variance + 1e-3) * scale[None, None] + bias[None, None]


def test_add_norm_and_its_gradients_are_those_of_the_plain_sum():
    inputs = add_norm_inputs()
    ours = value_and_gradients(functools.partial(add_norm, 0.0, "1"), inputs)
    assert_same(ours, value_and_gradients(plain_add_norm, inputs), rtol=1e-4, atol=1e-5)


def test_add_norm_drops_the_same_in_both_passes():
    inputs, rate = add_norm_inputs(), 0.25
    ours = value_and_gradients(functools.partial(add_norm, rate, "1"), inputs)
    is_kept = ours[1][1] != 0  # the gradient of the update is 0 where it was dropped
    assert abs(1 - is_kept.mean() - rate) < 4.5 * math.sqrt(rate * (1 - rate) / is_kept.size)
    reference = functools.partial(plain_add_norm, kept=jnp.asarray(is_kept / (1 - rate)))
    assert_same(ours, value_and_gradients(reference, inputs), rtol=1e-4, atol=1e-4)
    other = value_and_gradients(functools.partial(add_norm, rate, "1", seed=KEY + 1), inputs)
    assert (ours[1][1] != 0).mean() != (other[1][1] != 0).mean()
    first, second = is_kept[:4], is_kept[4:]
    assert (first == second).mean() == pytest.approx(1 - 2 * rate * (1 - rate), abs=0.02)


def test_add_norm_on_a_mesh_is_that_of_one_device():
    inputs = add_norm_inputs()
    ours, theirs = (
        value_and_gradients(functools.partial(add_norm, 0.25, mesh), inputs) for mesh in ("8", "1")
    )
    assert_same(ours, theirs, rtol=1e-5, atol=1e-5)


def test_dropout_drops_the_same_of_its_gradient_on_any_mesh():
    x, rate = normal(8, 64, 128), 0.1
    found = {}
    for mesh in ("1", "8"):
        run = functools.partial(
            drop, rate=rate, random_key=jax.random.key(KEY), mesh=mesh_of(mesh), interpret=True
        )
        found[mesh] = value_and_gradients(run, (x,))
    out, (gradient,) = found["1"]
    assert abs((out == 0).mean() - rate) < 4.5 * math.sqrt(rate * (1 - rate) / out.size)
    np.testing.assert_allclose(out[out != 0], np.asarray(x)[out != 0] / (1 - rate), rtol=1e-4)
    np.testing.assert_array_equal(out == 0, gradient == 0)
    assert_same(found["8"], found["1"], rtol=1e-6, atol=0)


def kernel_calls(function, *inputs):
    """What is said of the Pallas calls of a function and of its gradient, by their names."""

    def collect(jaxpr):
        for equation in jaxpr.eqns:
            if equation.primitive.name == "pallas_call":
                found[equation.params["name"]] = equation.params
            else:
                for inner in core.jaxprs_in_params(equation.params):
                    collect(inner)

    found = {}
    collect(jax.make_jaxpr(functools.partial(value_and_gradients, function))(inputs).jaxpr)
    return found


def is_moved(index_map, dimension, grid):
    """Whether the next block along a dimension of the grid is written elsewhere."""
    start = np.zeros(len(grid), np.int32)
    at = core.jaxpr_as_fun(index_map)
    return at(*start) != at(*(start + (np.arange(len(grid)) == dimension)))


@pytest.mark.parametrize("name", sorted(OWN))
def test_blocks_that_add_to_no_other_are_shared_by_two_cores(name):
    """As those of a v4 or v5p chip share what is marked as parallel, and nothing else."""
    inputs, instances = attention_inputs(2, 128, 4, 64)
    common = dict(rate=0.1, random_key=jax.random.key(KEY), mesh=mesh_of("1"), interpret=True)
    calls = {
        **kernel_calls(functools.partial(fused, instances, 4, 0.1, KEY, mesh_of("1")), *inputs),
        **kernel_calls(functools.partial(add_norm, 0.1, "1"), *add_norm_inputs()),
        **kernel_calls(functools.partial(drop, **common), normal(8, 64, 128)),
    }
    blocks = calls[name]["grid_mapping"]
    order = calls[name]["compiler_params"].dimension_semantics
    assert len(order) == len(blocks.grid) == 2
    for dimension, marked in enumerate(order):
        moved = [
            is_moved(output.index_map_jaxpr, dimension, blocks.grid)
            for output in blocks.block_mappings_output
        ]
        assert marked == (pltpu.PARALLEL if all(moved) else pltpu.ARBITRARY)


def test_hashed_words_are_even_in_every_bit():
    words = np.concatenate(
        [np.ravel(bits.hashed_words(seed, -seed, (64, 128))) for seed in range(8)]
    )
    assert len(np.unique(words)) > 0.9999 * len(words)
    ones = (words[:, None].astype(np.uint32) >> np.arange(32, dtype=np.uint32)) & 1
    assert np.abs(ones.mean(axis=0) - 0.5).max() < 4.5 * 0.5 / math.sqrt(len(words))
    alike = np.corrcoef(ones.T) - np.eye(32)
    assert np.abs(alike).max() < 5 / math.sqrt(len(words))
