"""What stands for a change that is undone computes the same, and what is printed of it."""

import jax.numpy as jnp
import numpy as np
import pytest

from bert_jax.model import attend, layers
from bert_jax.tasks.step_cost import EXCHANGES, PALLAS_KERNELS
from bert_jax.training.sharding import one_device_mesh
from tests.benchmarks import planned_changes


def normal(*shape, seed):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@pytest.mark.parametrize(("module", "name"), [(attend, "fused_attention"), (layers, "add_norm_of")])
def test_biases_added_apart_come_to_the_same(module, name):
    rows = [normal(2, 128, 128, seed=seed) for seed in range(3)]
    call = dict(rate=0.0, random_key=None, mesh=one_device_mesh(), interpret=True)
    if name == "fused_attention":
        inputs = (*rows, normal(3, 128, seed=3), jnp.ones((2, 128), jnp.int32))
        call |= dict(heads=2)
    else:
        inputs = (*rows[:2], *(normal(128, seed=seed) for seed in range(3, 6)))
        call |= dict(epsilon=1e-12)
    (other,) = (
        patch[2]
        for change in planned_changes.CHANGES
        for patch in change.patches
        if patch[:2] == (module, name)
    )
    expected = getattr(module, name)(*inputs, **call)
    np.testing.assert_allclose(other(*inputs, **call), expected, rtol=1e-5, atol=1e-5)


def test_a_line_says_where_a_step_does_not_fit():
    by_formula = {PALLAS_KERNELS: 3.0, EXCHANGES: 2.0, "random bits": 1.0}
    plan = dict(step_ms=10.0, by_formula=by_formula, bytes_per_chip=2**31, fits=True)
    out_of_memory = dict(step_ms=None, by_formula=None, bytes_per_chip=2**35, fits=False)
    assert planned_changes.cells(plan) == ["5.00", "3.00", "2.00", "10.00", "2.00"]
    assert planned_changes.cells(out_of_memory) == [*"----", "32.00 (does not fit)"]
