"""The ways of attention behind one interface: which is taken, and that all say the same."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import model_config

from bert_jax.config import MeshConfig
from bert_jax.errors import InputError
from bert_jax.model import attend as ways
from bert_jax.model import platform as platforms
from bert_jax.model.attention import SelfAttention
from bert_jax.model.platform import platform
from bert_jax.training.sharding import make_mesh

CONFIG = model_config(width=256, heads=4, dropout=0.0, attention_dropout=0.0)
LENGTH = 128


@pytest.fixture
def compile_for(monkeypatch):
    """Lets the devices of any mesh pass for those of a platform."""

    def pretend(platform):
        monkeypatch.setattr(ways, "platform", lambda mesh: platform)
        monkeypatch.setattr(ways, "is_tpu", lambda mesh: platform == "tpu")
        monkeypatch.setattr(ways, "has_cudnn_attention", lambda mesh: platform == "gpu")

    return pretend


@pytest.fixture
def choice(compile_for):
    """What auto takes on eight devices of a platform."""

    def choose(platform, rows=16, length=LENGTH, *, deterministic=False, **changes):
        compile_for(platform)
        config = model_config(**dict(width=256, heads=4) | changes)
        mesh = make_mesh(MeshConfig(data=8, fsdp=1, tensor=1))
        return ways._choice(config, mesh, (rows, length, config.width), deterministic=deterministic)

    return choose


def test_the_platform_is_that_of_the_mesh():
    assert platform(make_mesh(MeshConfig(data=8, fsdp=1, tensor=1))) == "cpu"
    assert platform(None) == ""


@pytest.mark.parametrize(
    ("capability", "runs"),
    [("7.5", False), ("8.0", True), ("8.9", True), ("12.0", True), ("gfx942", False)],
)
def test_cudnn_is_for_amperes_and_later(capability, runs):
    gpu = SimpleNamespace(platform="gpu", compute_capability=capability)
    assert platforms._runs_cudnn(gpu) == runs
    assert not platforms.has_cudnn_attention(make_mesh(MeshConfig(data=8, fsdp=1, tensor=1)))


def test_auto_goes_by_the_platform(choice):
    half = dict(compute_dtype="bfloat16")
    assert choice("tpu") == choice("tpu", length=512) == "fused"
    assert choice("cpu") == choice("") == "plain"
    assert choice("gpu", attention_dropout=0.0, **half) == "cudnn"
    assert choice("gpu", deterministic=True, **half) == "cudnn"  # nothing is dropped there


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("gpu", dict(compute_dtype="bfloat16")),  # dropout, which jax does not hand to cuDNN
        ("gpu", dict(attention_dropout=0.0)),  # float32
        ("gpu", dict(attention_dropout=0.0, compute_dtype="bfloat16", width=96, heads=8)),  # 12
        ("gpu", dict(attention_dropout=0.0, compute_dtype="bfloat16", width=512, heads=2)),  # 256
        ("tpu", dict(length=96)),
        ("tpu", dict(length=640)),
        ("tpu", dict(rows=12)),  # over 8 devices
        ("tpu", dict(width=96, heads=4)),  # 24 a head
        ("tpu", dict(width=192, heads=3)),  # a head and a half in a block
    ],
)
def test_auto_falls_back_where_a_way_cannot(kind, changes, choice):
    assert choice(kind, **changes) == "plain"


def inputs():
    rng = np.random.default_rng(0)
    instances = np.sort(rng.integers(4, size=(8, LENGTH)))[:, ::-1].astype(np.int32)
    instances[3] = 0
    x = rng.normal(size=(8, LENGTH, CONFIG.width)).astype(np.float32)
    return jnp.asarray(x), jnp.asarray(instances)


def run(way, mesh, *, deterministic=False):
    """(output, gradient of x) of the whole module; nothing is dropped in either case."""
    model = SelfAttention(model_config(**vars(CONFIG) | {"attention": way}), mesh)
    x, instances = inputs()
    variables = SelfAttention(CONFIG, None).init(
        jax.random.key(1), x, instances, deterministic=True
    )

    @jax.jit
    def both(x):
        out, pull = jax.vjp(
            lambda x: model.apply(variables, x, instances, deterministic=deterministic)[0], x
        )
        return out, pull(jnp.cos(jnp.arange(out.size, dtype=jnp.float32)).reshape(out.shape))[0]

    return jax.device_get(both(x))


@pytest.mark.parametrize("way", ["fused", "splash"])
def test_every_way_computes_the_same(way):
    mesh = make_mesh(MeshConfig(data=4, fsdp=1, tensor=2))
    ours, expected = run(way, mesh), run("plain", None)
    np.testing.assert_allclose(ours[0], expected[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(ours[1], expected[1], rtol=1e-4, atol=1e-6)


def one_cpu():
    return make_mesh(MeshConfig(data=1, fsdp=1, tensor=1), jax.devices()[:1])


def test_on_a_cpu_the_order_is_another_and_the_values_are_the_same():
    ours, expected = run("plain", one_cpu(), deterministic=True), run("plain", None)
    assert (ours[0] != expected[0]).any()  # not the one compared with itself
    np.testing.assert_allclose(ours[0], expected[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(ours[1], expected[1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("deterministic", [False, True])
def test_padding_gets_zeros(deterministic):
    out, gradient = run("plain", one_cpu(), deterministic=deterministic)
    _, instances = inputs()
    assert (out[np.asarray(instances) == 0] == 0).all()
    assert (gradient[3] == 0).all()  # a row of nothing else
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("way", "kind", "length", "wanted"),
    [
        ("fused", "cpu", 96, "rows of 128, 256, 384 or 512 tokens, not 96"),
        ("splash", "cpu", 96, "rows of a multiple of 128 tokens, not 96"),
        ("fused", "gpu", 128, "a mesh of TPUs"),
        ("splash", "gpu", 128, "a mesh of TPUs"),
        ("cudnn", "cpu", 128, "a mesh of NVIDIA's GPUs"),
    ],
)
def test_a_way_that_cannot_says_what_it_needs(way, kind, length, wanted, compile_for):
    compile_for(kind)
    config = model_config(
        **vars(CONFIG) | {"attention": way, "attention_dropout": 0.0, "compute_dtype": "bfloat16"}
    )
    x = jnp.zeros((8, length, CONFIG.width), jnp.bfloat16)
    model = SelfAttention(config, make_mesh(MeshConfig(data=8, fsdp=1, tensor=1)))
    instances = jnp.ones((8, length), jnp.int32)
    variables = jax.eval_shape(
        lambda: SelfAttention(CONFIG, None).init(
            jax.random.key(1), x, instances, deterministic=True
        )
    )
    with pytest.raises(InputError, match=f"config.model.attention={way} needs {wanted}"):
        jax.eval_shape(
            lambda variables: model.apply(variables, x, instances, deterministic=True), variables
        )
