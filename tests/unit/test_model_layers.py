"""How products are asked for."""

import re

import jax
import jax.numpy as jnp
import pytest
import small

from bert_jax.arrays import Tokens
from bert_jax.model.bert import MlmModel, TagModel
from bert_jax.training.sharding import one_device_mesh

CONFIG = small.model_config(vocab_size=40)


def sums_over_two_axes(model, *more):
    """How many products of the gradient's are: over rows and tokens both."""
    tokens = Tokens(*[jnp.ones((2, 8), jnp.int32)] * 4)
    params = model.init(jax.random.key(0), tokens, *more, deterministic=True)

    def total(params):
        return model.apply(params, tokens, *more, deterministic=True).sum()

    products = re.findall(
        r"dimension_numbers=\(\(\[([\d, ]*)\]", str(jax.make_jaxpr(jax.grad(total))(params))
    )
    assert len(products) > 10
    return sum("," in axes for axes in products)


@pytest.mark.parametrize("is_mlm", [False, True])
def test_on_cpus_no_product_sums_over_rows_and_tokens_both(is_mlm):
    more = [jnp.ones((2, 3), jnp.int32)] if is_mlm else []

    def model(mesh):
        return MlmModel(CONFIG, mesh) if is_mlm else TagModel(CONFIG, 4, mesh)

    assert sums_over_two_axes(model(one_device_mesh()), *more) == 0
    assert sums_over_two_axes(model(None), *more) > 12
