"""The parameter tree is the contract with every checkpoint: each path, shape and dtype."""

import re

import jax
import jax.numpy as jnp
import pytest
from small import model_config

from bert_jax.arrays import Tokens
from bert_jax.config import MeshConfig
from bert_jax.model.bert import ClassifyModel, PretrainModel, SpanModel, TagModel
from bert_jax.training.paths import map_paths
from bert_jax.training.sharding import RULES, make_mesh, tree_shardings

CONFIG = model_config(vocab_size=100, positions=48, heads=4, compute_dtype="bfloat16")

ENCODER = {
    "encoder/embeddings/norm/bias": (32,),
    "encoder/embeddings/norm/scale": (32,),
    "encoder/embeddings/position": (48, 32),
    "encoder/embeddings/segment": (2, 32),
    "encoder/embeddings/token": (100, 32),
    "encoder/layer_0/attention/key/bias": (4, 8),
    "encoder/layer_0/attention/key/kernel": (32, 4, 8),
    "encoder/layer_0/attention/output/bias": (32,),
    "encoder/layer_0/attention/output/kernel": (4, 8, 32),
    "encoder/layer_0/attention/query/bias": (4, 8),
    "encoder/layer_0/attention/query/kernel": (32, 4, 8),
    "encoder/layer_0/attention/value/bias": (4, 8),
    "encoder/layer_0/attention/value/kernel": (32, 4, 8),
    "encoder/layer_0/attention_norm/bias": (32,),
    "encoder/layer_0/attention_norm/scale": (32,),
    "encoder/layer_0/feed_forward/intermediate/bias": (64,),
    "encoder/layer_0/feed_forward/intermediate/kernel": (32, 64),
    "encoder/layer_0/feed_forward/output/bias": (32,),
    "encoder/layer_0/feed_forward/output/kernel": (64, 32),
    "encoder/layer_0/feed_forward_norm/bias": (32,),
    "encoder/layer_0/feed_forward_norm/scale": (32,),
    "encoder/layer_1/attention/key/bias": (4, 8),
    "encoder/layer_1/attention/key/kernel": (32, 4, 8),
    "encoder/layer_1/attention/output/bias": (32,),
    "encoder/layer_1/attention/output/kernel": (4, 8, 32),
    "encoder/layer_1/attention/query/bias": (4, 8),
    "encoder/layer_1/attention/query/kernel": (32, 4, 8),
    "encoder/layer_1/attention/value/bias": (4, 8),
    "encoder/layer_1/attention/value/kernel": (32, 4, 8),
    "encoder/layer_1/attention_norm/bias": (32,),
    "encoder/layer_1/attention_norm/scale": (32,),
    "encoder/layer_1/feed_forward/intermediate/bias": (64,),
    "encoder/layer_1/feed_forward/intermediate/kernel": (32, 64),
    "encoder/layer_1/feed_forward/output/bias": (32,),
    "encoder/layer_1/feed_forward/output/kernel": (64, 32),
    "encoder/layer_1/feed_forward_norm/bias": (32,),
    "encoder/layer_1/feed_forward_norm/scale": (32,),
    "pooler/dense/bias": (32,),
    "pooler/dense/kernel": (32, 32),
}
PRETRAIN = ENCODER | {
    "mlm/bias": (100,),
    "mlm/dense/bias": (32,),
    "mlm/dense/kernel": (32, 32),
    "mlm/norm/bias": (32,),
    "mlm/norm/scale": (32,),
    "next/dense/bias": (2,),
    "next/dense/kernel": (32, 2),
}
CLASSIFY = ENCODER | {"classifier/dense/bias": (3,), "classifier/dense/kernel": (32, 3)}
TAG = {path: shape for path, shape in ENCODER.items() if path.startswith("encoder/")} | {
    "tagger/dense/bias": (3,),
    "tagger/dense/kernel": (32, 3),
}
# Without a pooler.
SPAN = {path: shape for path, shape in ENCODER.items() if path.startswith("encoder/")} | {
    "span/dense/bias": (2,),
    "span/dense/kernel": (32, 2),
}

ZEROS = jnp.zeros((1, 8), jnp.int32)
TOKENS = Tokens(ZEROS, ZEROS, ZEROS, ZEROS)


def pretrain_params():
    model = PretrainModel(CONFIG, None)
    return jax.eval_shape(
        lambda key: model.init(key, TOKENS, ZEROS, ZEROS, deterministic=True), jax.random.key(0)
    )["params"]


def head_params(kind):
    model = kind(CONFIG, 3, None)
    return jax.eval_shape(
        lambda key: model.init(key, TOKENS, deterministic=True), jax.random.key(0)
    )["params"]


def classify_params():
    return head_params(ClassifyModel)


def tag_params():
    return head_params(TagModel)


def span_params():
    model = SpanModel(CONFIG, None)
    return jax.eval_shape(
        lambda key: model.init(key, TOKENS, deterministic=True), jax.random.key(0)
    )["params"]


def flat(tree):
    found = {}
    map_paths(lambda path, leaf: found.update({path: leaf}), tree)
    return found


@pytest.mark.parametrize(
    ("params", "wanted"),
    [
        (pretrain_params, PRETRAIN),
        (classify_params, CLASSIFY),
        (tag_params, TAG),
        (span_params, SPAN),
    ],
)
def test_every_path_shape_and_dtype(params, wanted):
    # Parameters are float32 under bfloat16 compute too.
    found = {path: (leaf.shape, str(leaf.dtype)) for path, leaf in flat(params()).items()}
    assert found == {path: (shape, "float32") for path, shape in wanted.items()}


LAYER = {
    "attention/query/kernel": ("fsdp", "tensor", None),
    "attention/query/bias": ("tensor", None),
    "attention/key/kernel": ("fsdp", "tensor", None),
    "attention/key/bias": ("tensor", None),
    "attention/value/kernel": ("fsdp", "tensor", None),
    "attention/value/bias": ("tensor", None),
    "attention/output/kernel": ("tensor", None, "fsdp"),
    "feed_forward/intermediate/kernel": ("fsdp", "tensor"),
    "feed_forward/intermediate/bias": ("tensor",),
    "feed_forward/output/kernel": ("tensor", "fsdp"),
}
# What is split, over which axes; everything else lies whole on every device.
SPLIT = {
    "encoder/embeddings/token": ("tensor", "fsdp"),
    "encoder/embeddings/position": (None, "fsdp"),
    "encoder/embeddings/segment": (None, "fsdp"),
    **{f"encoder/layer_{n}/{path}": axes for n in (0, 1) for path, axes in LAYER.items()},
    "pooler/dense/kernel": ("fsdp", None),
    "mlm/dense/kernel": ("fsdp", None),
    "mlm/bias": ("tensor",),
}


def axes_of(mesh):
    """The mesh axis of every dimension of every parameter, None where it is whole."""
    shardings = flat(tree_shardings(pretrain_params(), mesh))
    return {
        path: (*sharding.spec, *[None] * (len(PRETRAIN[path]) - len(sharding.spec)))
        for path, sharding in shardings.items()
    }


def test_every_parameter_lies_where_the_table_says():
    found = axes_of(make_mesh(MeshConfig(data=2, fsdp=2, tensor=2)))
    assert found == {p: SPLIT.get(p, (None,) * len(shape)) for p, shape in PRETRAIN.items()}


def test_an_axis_that_does_not_divide_or_has_one_device_is_left_out():
    found = axes_of(make_mesh(MeshConfig(data=1, fsdp=1, tensor=8)))
    # 4 heads and 100 pieces over 8 devices do not go; 64 hidden features do.
    assert found["encoder/layer_0/attention/query/kernel"] == (None, None, None)
    assert found["encoder/embeddings/token"] == (None, None)
    assert found["encoder/layer_0/feed_forward/intermediate/kernel"] == (None, "tensor")


@pytest.mark.parametrize(("pattern", "axes"), RULES)
def test_no_rule_is_idle(pattern, axes):
    matched = [path for path in PRETRAIN if re.search(pattern, path)]
    assert matched
    assert {len(PRETRAIN[path]) for path in matched} == {len(axes)}
