"""A last layer that computes the tokens that are read alone, against one that computes all."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small

from bert_jax.arrays import Tokens
from bert_jax.config import MeshConfig
from bert_jax.data.encoding import pack_tokens
from bert_jax.model.encoder import Encoder
from bert_jax.model.heads import of_examples
from bert_jax.training.paths import map_paths
from bert_jax.training.sharding import batch_placer, make_mesh, tree_shardings

LENGTHS = (16, 9, 5, 1)
WAYS = {
    "unrolled": {},
    "looped": dict(scan_layers=True),
    "one looped": dict(scan_layers=True, layers=1),
    "computed again": dict(remat="full"),
    "looped and computed again": dict(scan_layers=True, remat="dots"),
}


def padded():
    length = max(LENGTHS)
    there = np.arange(length) < np.array(LENGTHS)[:, None]
    ids = np.random.default_rng(0).integers(5, 40, there.shape) * there
    places = np.broadcast_to(np.arange(length), there.shape) * there
    return Tokens(*(array.astype(np.int32) for array in (ids, 0 * ids, places, there)))


def results(config, tokens, read, *, key=None, mesh=None):
    """What the first tokens are, and gradients: of the encoder that reads, or of all it has."""
    encoder = Encoder(config, mesh)
    zeros = jnp.zeros((1, 8), jnp.int32)
    fresh = encoder.init(jax.random.key(0), Tokens(*[zeros] * 4), deterministic=True)["params"]
    # Fresh biases are 0 and scales 1, which would hide what is left out of them.
    keys = iter(jax.random.split(jax.random.key(1), len(jax.tree.leaves(fresh))))
    params = jax.tree.map(lambda x: x + 0.1 * jax.random.normal(next(keys), x.shape), fresh)
    if mesh:
        params = jax.device_put(params, tree_shardings(params, mesh))
        tokens = batch_placer(mesh)(tokens)

    def first(params, tokens):
        x, _ = encoder.apply(
            {"params": params},
            tokens.rows,
            deterministic=key is None,
            read=(lambda x: of_examples(x, tokens, 1)) if read else None,
            rngs=None if key is None else {"dropout": key},
        )
        x = x if read else of_examples(x, tokens, 1)
        return (x * jnp.cos(jnp.arange(x.size).reshape(x.shape))).sum(), x

    (_, x), gradient = jax.jit(jax.value_and_grad(first, has_aux=True))(params, tokens)
    return jax.tree.map(np.array, (x, gradient))


def assert_close(found, wanted):
    x, gradient = wanted
    sizes = map_paths(lambda path, leaf: np.abs(leaf).max() if "kernel" in path else 1, gradient)
    assert np.abs(x).max() > 1
    assert min(jax.tree.leaves(sizes)) > 1e-3
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, wanted)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("is_packed", [False, True])
def test_what_is_read_and_its_gradients_are_those_of_the_whole_layer(way, is_packed):
    tokens = padded()
    if is_packed:
        tokens = pack_tokens(tokens, rows=2, pad=0)
    config = small.model_config(vocab_size=40, **WAYS[way])
    assert_close(results(config, tokens, True), results(config, tokens, False))


@pytest.mark.parametrize("sizes", [(1, 1, 1), (4, 1, 1), (2, 2, 2)])
def test_on_a_mesh(sizes):
    mesh = make_mesh(MeshConfig(*sizes), jax.devices()[: np.prod(sizes)])
    config = small.model_config(vocab_size=40)
    found, wanted = (results(config, padded(), read, mesh=mesh) for read in (True, False))
    assert_close(found, wanted)


@pytest.mark.parametrize("way", ["looped", "computed again", "looped and computed again"])
def test_every_way_drops_the_same(way):
    key = jax.random.key(2)
    changes = dict(vocab_size=40, layers=3)
    plain = results(small.model_config(**changes), padded(), True, key=key)
    assert_close(results(small.model_config(**changes | WAYS[way]), padded(), True, key=key), plain)
    without = results(small.model_config(**changes), padded(), True)
    assert not np.allclose(plain[0], without[0])
