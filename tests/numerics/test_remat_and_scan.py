"""Layers in a loop, and values computed again: the same numbers and tree, less memory."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import model_config

from bert_jax.arrays import Tokens
from bert_jax.config import MeshConfig
from bert_jax.model.encoder import Encoder
from bert_jax.training.sharding import batch_placer, make_mesh, tree_shardings

CONFIG = model_config(
    vocab_size=40, positions=16, width=16, heads=2, feed_forward=32, layers=2, init_stddev=0.2
)
DEEP = dataclasses.replace(CONFIG, layers=8, positions=32, width=32, feed_forward=128)
ROWS = 8
REMAT = ["none", "dots", "full"]
WAYS = [(scan, remat) for scan in (False, True) for remat in REMAT]
MESHES = {"1": (1, 1, 1), "8": (2, 2, 2)}
PLACES = [(*way, "1") for way in WAYS] + [(*way, "8") for way in WAYS if way[0] or way[1] == "full"]


def make_tokens(config):
    """Rows of two segments, the last two tokens padding."""
    shape = ROWS, config.positions
    ids = np.random.default_rng(0).integers(config.vocab_size, size=shape, dtype=np.int32)
    places = np.broadcast_to(np.arange(config.positions, dtype=np.int32), shape)
    is_token = (places < config.positions - 2).astype(np.int32)
    return jax.tree.map(jnp.asarray, Tokens(ids, places // 9 % 2, places, is_token))


@functools.cache
def start(config):
    init = functools.partial(Encoder(config, None).init, deterministic=True)
    return jax.jit(init)(jax.random.key(0), make_tokens(config))["params"]


def loss_of(config, params, tokens, key, mesh=None):
    """A loss that weighs every number of the output by another number; and the output."""
    x, _ = Encoder(config, mesh).apply(
        {"params": params}, tokens, deterministic=False, rngs={"dropout": key}
    )
    weights = jnp.cos(jnp.arange(x.size, dtype=jnp.float32)).reshape(x.shape)
    return (x * weights).mean(), x


@functools.cache
def compute(scan, remat, mesh_name="1"):
    """(output, gradients) with dropout, on a mesh."""
    config = dataclasses.replace(CONFIG, scan_layers=scan, remat=remat)
    sizes = MESHES[mesh_name]
    mesh = make_mesh(MeshConfig(*sizes), jax.devices()[: math.prod(sizes)])
    params = jax.device_put(start(config), tree_shardings(start(config), mesh))
    gradient = jax.jit(jax.grad(functools.partial(loss_of, config, mesh=mesh), has_aux=True))
    gradients, x = gradient(params, batch_placer(mesh)(make_tokens(config)), jax.random.key(1))
    return jax.device_get((x, gradients))


@pytest.mark.parametrize(("scan", "remat", "mesh"), PLACES)
def test_every_way_computes_the_same_with_dropout(scan, remat, mesh):
    (x, gradients), (expected_x, expected) = compute(scan, remat, mesh), compute(False, "none")
    np.testing.assert_allclose(x, expected_x, rtol=1e-5, atol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), gradients, expected
    )


@pytest.mark.parametrize("scan", [False, True])
def test_every_layer_drops_other_elements(scan):
    config = dataclasses.replace(CONFIG, dropout=0.5, attention_dropout=0.0, scan_layers=scan)

    def is_kept(layer):
        # Of zeros everywhere but in one bias, what a layer's last dropout leaves of it shows
        # in the sign of the output.
        params = jax.tree.map(jnp.zeros_like, start(CONFIG))
        for n in range(config.layers):
            for norm in ("attention_norm", "feed_forward_norm"):
                params[f"layer_{n}"][norm]["scale"] += 1
        params[f"layer_{layer}"]["feed_forward"]["output"]["bias"] += 1
        return np.asarray(loss_of(config, params, make_tokens(config), jax.random.key(2))[1]) > 0

    first, second = is_kept(0), is_kept(1)
    size = first.size
    for share in (first.mean(), second.mean(), (first == second).mean()):
        assert share == pytest.approx(0.5, abs=4.5 * 0.5 / math.sqrt(size))


@pytest.mark.parametrize(("scan", "remat"), WAYS)
def test_every_way_has_the_same_parameters(scan, remat):
    ours = start(dataclasses.replace(CONFIG, scan_layers=scan, remat=remat))
    assert ours.keys() == {"embeddings", "layer_0", "layer_1"}
    jax.tree.map(np.testing.assert_array_equal, ours, start(CONFIG))


def kept_bytes(scan, remat):
    """What the forward pass hands the backward pass, the parameters included."""
    config = dataclasses.replace(DEEP, scan_layers=scan, remat=remat)

    def forward(params, tokens, key):
        return jax.vjp(lambda params: loss_of(config, params, tokens, key)[0], params)[1]

    kept = jax.eval_shape(forward, start(DEEP), make_tokens(DEEP), jax.random.key(0))
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(kept))


@pytest.mark.parametrize("scan", [False, True])
def test_the_forward_pass_keeps_less(scan):
    none, dots, full = (kept_bytes(scan, remat) for remat in REMAT)
    assert full < dots < none


def lowered(function, **changes):
    config = dataclasses.replace(DEEP, **changes)
    arguments = jax.eval_shape(lambda: (start(config), make_tokens(config), jax.random.key(0)))
    return jax.jit(functools.partial(function, config)).lower(*arguments)


def test_a_loop_needs_less_memory_with_remat():
    # In a loop, because XLA's CPU compiler merges what unrolled layers compute twice.
    gradient = jax.grad(loss_of, argnums=1, has_aux=True)
    none, dots, full = (
        lowered(gradient, scan_layers=True, remat=remat).compile().memory_analysis()
        for remat in REMAT
    )
    assert full.temp_size_in_bytes < dots.temp_size_in_bytes < none.temp_size_in_bytes


def test_a_loop_is_a_shorter_program():
    scanned, unrolled = (
        lowered(loss_of, scan_layers=scan, layers=16).as_text(dialect="hlo").count("\n")
        for scan in (True, False)
    )
    assert scanned < unrolled / 2
