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
from bert_jax.training.sharding import make_mesh

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


def results(config, tokens, read, *, mesh=None):
    """What the first tokens are, and gradients: of the encoder that reads, or of all it has."""
    encoder = Encoder(config, mesh)
    zeros = jnp.zeros((1, 8), jnp.int32)
    fresh = encoder.init(jax.random.key(0), Tokens(*[zeros] * 4), deterministic=True)["params"]
    # Fresh biases are 0 and scales 1, which would hide what is left out of them.
    keys = iter(jax.random.split(jax.random.key(1), len(jax.tree.leaves(fresh))))
    params = jax.tree.map(lambda x: x + 0.1 * jax.random.normal(next(keys), x.shape), fresh)

    def first(params, tokens):
        x, _ = encoder.apply(
            {"params": params},
            tokens.rows,
            deterministic=True,
            read=(lambda x: of_examples(x, tokens, 1)) if read else None,
        )
        x = x if read else of_examples(x, tokens, 1)
        return (x * jnp.cos(jnp.arange(x.size).reshape(x.shape))).sum(), x

    (_, x), gradient = jax.jit(jax.value_and_grad(first, has_aux=True))(params, tokens)
    return jax.tree.map(np.array, (x, gradient))


def assert_close(found, wanted):
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(wanted[0]))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, wanted)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("is_packed", [False, True])
def test_what_is_read_and_its_gradients_are_those_of_the_whole_layer(way, is_packed):
    tokens = padded()
    if is_packed:
        tokens = pack_tokens(tokens, rows=2, pad=0)
    config = small.model_config(vocab_size=40, **WAYS[way])
    assert_close(results(config, tokens, True), results(config, tokens, False))


@pytest.mark.parametrize("devices", [1, 4])
def test_on_a_mesh(devices):
    mesh = make_mesh(MeshConfig(-1, 1, 1), jax.devices()[:devices])
    config = small.model_config(vocab_size=40)
    assert_close(
        results(config, padded(), True, mesh=mesh), results(config, padded(), False, mesh=mesh)
    )
