"""Learning rates against published rows of numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import optimizer_config

from bert_jax.training.schedules import make_schedule

NAMES = ["original", "linear", "cosine", "wsd", "constant"]


def rates(name, steps, *, peak=10.0, warmup_steps=2, decay_steps=4, total_steps=10):
    config = optimizer_config(
        schedule=name,
        learning_rate=peak,
        warmup_fraction=warmup_steps / total_steps,
        decay_fraction=decay_steps / total_steps,
    )
    schedule = make_schedule(config, total_steps=total_steps)
    return [float(schedule(jnp.asarray(step))) for step in steps]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # google-research/bert, optimization.py: polynomial decay from step 0, so it drops
        # at the end of the warm-up.
        ("original", [0, 5, 8, 7, 6, 5, 4, 3, 2, 1, 0]),
        # Hugging Face test_optimization.py, get_linear_schedule_with_warmup and
        # get_cosine_schedule_with_warmup.
        ("linear", [0, 5, 10, 8.75, 7.5, 6.25, 5, 3.75, 2.5, 1.25, 0]),
        ("cosine", [0, 5, 10, 9.61, 8.53, 6.91, 5, 3.08, 1.46, 0.38, 0]),
        # arXiv:2404.06395, with a straight decay: of 10 steps the last 4.
        ("wsd", [0, 5, 10, 10, 10, 10, 10, 7.5, 5, 2.5, 0]),
        ("constant", [0, 5, 10, 10, 10, 10, 10, 10, 10, 10, 10]),
    ],
)
def test_published_rows(name, expected):
    found = np.array(rates(name, range(11)))
    if name == "cosine":  # its row is published cut to two decimals
        found = np.floor(found * 100 + 1e-4) / 100
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_corners(name):
    warmup, total, peak = 100, 1000, 3.0
    corners = [0, warmup - 1, warmup, warmup + 1, total - 1, total, total + 1, 10 * total]
    found = rates(name, corners, peak=peak, warmup_steps=warmup, decay_steps=200, total_steps=total)
    left = {
        "original": lambda t: 1 - t / total,
        "linear": lambda t: (total - t) / (total - warmup),
        "cosine": lambda t: 0.5 * (1 + np.cos(np.pi * (t - warmup) / (total - warmup))),
        "wsd": lambda t: min((total - t) / 200, 1.0),
        "constant": lambda t: 1.0,
    }[name]
    past = peak if name == "constant" else 0.0
    expected = [
        0.0,
        peak * 0.99,
        *[peak * left(t) for t in (warmup, warmup + 1, total - 1)],
        *[past] * 3,
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    if name != "constant":
        assert found[-3:] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("name", NAMES)
def test_without_warm_up_the_first_rate_is_the_peak(name):
    assert rates(name, [0], warmup_steps=0) == [10.0]


def test_corners_of_the_last_decay():
    steps = [799, 800, 801, 900, 999, 1000, 1001]
    found = rates("wsd", steps, peak=3.0, warmup_steps=100, decay_steps=200, total_steps=1000)
    expected = [3.0, 3.0, 3.0 * 199 / 200, 1.5, 3.0 / 200, 0.0, 0.0]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("decay_steps", "expected"), [(0, [10, 10, 10, 0, 0]), (8, [10, 5, 1.25, 0, 0])]
)
def test_no_last_decay_and_nothing_else(decay_steps, expected):
    assert rates("wsd", [2, 6, 9, 10, 11], decay_steps=decay_steps) == expected


def test_fractions_that_round_to_a_step_too_many_leave_no_gap():
    # Half of 11 steps is rounded to 6, twice.
    found = rates("wsd", range(12), warmup_steps=5.5, decay_steps=5.5, total_steps=11)
    np.testing.assert_allclose(found[:7], [10 * t / 6 for t in range(7)], rtol=1e-6)
    np.testing.assert_allclose(found[6:], [10 * t / 5 for t in range(5, -1, -1)], rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("original", [2.5, 7.75, 2.5]),
        ("linear", [2.5, 9.6875, 3.125]),
        ("cosine", [2.5, 9.975924, 2.222149]),
        ("wsd", [2.5, 10, 6.25]),
        ("constant", [2.5, 10, 10]),
    ],
)
def test_a_time_lies_between_two_steps(name, expected):
    np.testing.assert_allclose(rates(name, [0.5, 2.25, 7.5]), expected, rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_all_warm_up(name):
    assert rates(name, [0, 5, 9], warmup_steps=10, decay_steps=0) == [0.0, 5.0, 9.0]


def test_a_schedule_runs_inside_jit():
    config = optimizer_config(schedule="linear", learning_rate=10.0, warmup_fraction=0.2)
    schedule = make_schedule(config, total_steps=10)
    assert float(jax.jit(schedule)(jnp.asarray(3))) == pytest.approx(8.75)
