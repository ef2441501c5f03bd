"""Cross-entropy, accuracy and their sums against numbers worked out by hand."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bert_jax.training.losses import (
    accuracy,
    binary_cross_entropy,
    cross_entropy,
    squared_error,
)
from bert_jax.training.metrics import Mean, add, divide, weighted_mean

# Softmax of the logs of 1, 2, 5 is 1/8, 2/8, 5/8.
LOGITS = jnp.log(
    jnp.asarray([[[1.0, 2.0, 5.0], [5.0, 2.0, 1.0]], [[1.0, 1.0, 2.0], [3.0, 3.0, 1.0]]])
)
LABELS = jnp.asarray([[2, 1], [0, 1]])
WEIGHTS = jnp.asarray([[1.0, 1.0], [0.5, 0.0]])


def test_cross_entropy_by_hand():
    mean = cross_entropy(LOGITS, LABELS, WEIGHTS)
    expected = math.log(8 / 5) + math.log(8 / 2) + 0.5 * math.log(4 / 1)
    assert float(mean.total) == pytest.approx(expected, rel=1e-6)
    assert float(mean.weight) == 2.5


def test_cross_entropy_of_equal_logits_is_the_log_of_their_number():
    mean = cross_entropy(jnp.full((4, 7), 3.0), jnp.arange(4), jnp.ones(4))
    assert float(mean.total / mean.weight) == pytest.approx(math.log(7), rel=1e-6)


def test_cross_entropy_of_huge_logits_is_finite_and_exact():
    mean = cross_entropy(jnp.asarray([[1e4, 0.0], [-1e4, 0.0]]), jnp.asarray([1, 1]), jnp.ones(2))
    assert float(mean.total) == 1e4


def test_cross_entropy_in_bfloat16_is_summed_in_float32():
    # 300 equal terms: bfloat16 would stop counting at 256.
    logits = jnp.zeros((300, 2), jnp.bfloat16)
    mean = cross_entropy(logits, jnp.zeros(300, jnp.int32), jnp.ones(300, jnp.bfloat16))
    assert mean.total.dtype == mean.weight.dtype == jnp.float32
    assert float(mean.total) == pytest.approx(300 * math.log(2), rel=1e-5)
    assert float(mean.weight) == 300


def test_the_gradient_is_softmax_minus_label():
    gradient = jax.grad(lambda logits: cross_entropy(logits, LABELS, WEIGHTS).total)(LOGITS)
    expected = np.array(
        [
            [[1 / 8, 2 / 8, 5 / 8 - 1], [5 / 8, 2 / 8 - 1, 1 / 8]],
            [[0.5 * (1 / 4 - 1), 0.5 / 4, 0.5 * 2 / 4], [0, 0, 0]],
        ]
    )
    np.testing.assert_allclose(gradient, expected, atol=1e-6)


def test_accuracy_by_hand():
    mean = accuracy(LOGITS, LABELS, WEIGHTS)
    assert (float(mean.total), float(mean.weight)) == (1.0, 2.5)
    everywhere = accuracy(LOGITS, LABELS, jnp.ones((2, 2)))
    assert float(everywhere.total) == 2.0  # a tie counts as right


def test_weighted_mean_of_bools():
    mean = weighted_mean(jnp.asarray([True, False, True]), jnp.asarray([2.0, 1.0, 0.0]))
    assert (float(mean.total), float(mean.weight)) == (2.0, 3.0)


def test_means_are_added_before_they_are_divided():
    first = {"loss": Mean(jnp.asarray(10.0), jnp.asarray(1.0))}
    second = {"loss": Mean(jnp.asarray(2.0), jnp.asarray(3.0))}
    total = add(add({}, first), second)
    assert total == {"loss": Mean(12.0, 4.0)}
    assert divide(total) == {"loss": 3.0}  # not the mean of 10 and 2/3


def test_sums_on_the_host_are_float64():
    # In float32, 2^24 + 1 is 2^24.
    total = add({"n": Mean(float(2**24), 1.0)}, {"n": Mean(jnp.asarray(1.0), jnp.asarray(0.0))})
    assert total["n"].total == 2**24 + 1


def test_a_metric_nothing_counted_for_is_nan():
    assert math.isnan(divide({"loss": Mean(0.0, 0.0)})["loss"])


def test_binary_cross_entropy_by_hand():
    # The sigmoid of the log of 3 is 3/4; the second row weighs half, the third nothing.
    logits = jnp.log(jnp.asarray([[3.0, 1 / 3], [3.0, 3.0], [1.0, 1.0]]))
    labels = jnp.asarray([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    mean = binary_cross_entropy(logits, labels, jnp.asarray([1.0, 0.5, 0.0]))
    expected = math.log(4 / 3) + 0.5 * (math.log(4 / 3) + math.log(4)) / 2
    assert float(mean.total) == pytest.approx(expected, rel=1e-6)
    assert float(mean.weight) == 1.5


@pytest.mark.parametrize(("logit", "label"), [(1e4, 0.0), (-1e4, 1.0)])
def test_binary_cross_entropy_of_huge_logits_is_finite_and_exact(logit, label):
    mean = binary_cross_entropy(jnp.asarray([[logit]]), jnp.asarray([[label]]), jnp.ones(1))
    assert float(mean.total) == 1e4


def test_squared_error_by_hand():
    weights = jnp.asarray([1.0, 0.5, 0.0])
    mean = squared_error(jnp.asarray([1.0, 2.0, 9.0]), jnp.asarray([4.0, 4.0, 0.0]), weights)
    assert (float(mean.total), float(mean.weight)) == (9 + 0.5 * 4, 1.5)
