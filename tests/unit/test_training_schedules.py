"""Learning rates against published rows of numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bert_jax.training.schedules import make_schedule

NAMES = ["original", "linear", "cosine", "constant"]


def rates(name, steps, *, peak=10.0, warmup_steps=2, total_steps=10):
    schedule = make_schedule(name, peak=peak, warmup_steps=warmup_steps, total_steps=total_steps)
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
    found = rates(name, corners, peak=peak, warmup_steps=warmup, total_steps=total)
    left = {
        "original": lambda t: 1 - t / total,
        "linear": lambda t: (total - t) / (total - warmup),
        "cosine": lambda t: 0.5 * (1 + np.cos(np.pi * (t - warmup) / (total - warmup))),
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


@pytest.mark.parametrize("name", NAMES)
def test_all_warm_up(name):
    assert rates(name, [0, 5, 9], warmup_steps=10) == [0.0, 5.0, 9.0]


def test_a_schedule_runs_inside_jit():
    schedule = make_schedule("linear", peak=10.0, warmup_steps=2, total_steps=10)
    assert float(jax.jit(schedule)(jnp.asarray(3))) == pytest.approx(8.75)
