"""What accelerator.py reckons: the batch that fits, the time of a step, the rows of its table."""

import pytest

from tests.benchmarks import accelerator
from tests.benchmarks.accelerated import work as benchmark
from tests.benchmarks.accelerated.work import Measured, Work, largest_batch, step_ms

GIB = 2**30


@pytest.mark.parametrize(
    ("limit", "rows"),
    [(79, 512), (67, 512), (66.9, 256), (4, 8), (3.9, 4), (3.12, 1), (0, 1)],
)
def test_the_largest_power_of_two_that_fits(limit, rows):
    # 3 GiB of state, and an eighth of one for each row: 512 of them are 67.
    assert largest_batch({16: 5 * GIB, 8: 4 * GIB}, int(limit * GIB)) == rows


def test_a_round_ends_when_its_last_step_is_done(monkeypatch):
    """A step takes 0.1 s, and dispatching it nothing; one round in three is disturbed."""
    monkeypatch.setattr(benchmark, "ROUNDS", 3)
    now, waiting, rounds = [0.0], [0], [0]

    def step():
        waiting[0] += 1

    def wait():
        rounds[0] += 1
        now[0] += 0.1 * waiting[0] + (5 if rounds[0] in (1, 4) else 0)
        waiting[0] = 0

    assert step_ms(step, wait, now=lambda: now[0]) == pytest.approx(100)


def work(**changes):
    defaults = dict(size="base", length=128, attention_dropout=0.1, batch_size=0, device="")
    return Work(**defaults | changes)


def measured(step_ms, peak_flops=0.0, batch_size=64):
    return Measured("a card", batch_size, step_ms, 3 * GIB, 0, peak_flops)


def test_the_rows_of_the_table():
    ours = accelerator.Result("bert_jax", work(), measured(100.0, peak_flops=989e12))
    theirs = accelerator.Result("Hugging Face", work(), measured(200.0))
    other = accelerator.Result("bert_jax", work(attention_dropout=0.0), measured(50.0))
    found = accelerator.rows([ours, theirs, other])
    assert [row["sequences_per_second"] for row in found] == [640, 320, 1280]
    assert [row["ratio"] for row in found] == [2, 1, None]
    # 69.9 GFLOP a row: see numerics/test_flops.py.
    assert found[0]["mfu"] == pytest.approx(640 * 69.9e9 / 989e12, rel=1e-3)
    assert found[1]["mfu"] == pytest.approx(found[0]["mfu"] / 2)
    text = accelerator.table(found)
    assert "| base | 128 | 0.1 | bert_jax | 64 | 640.0 | 4.5% | 3.0 |  | 2.00 |" in text


def test_the_work_is_the_published_one():
    config = work().config()
    assert (config.model.vocab_size, config.model.layers, config.model.dropout) == (30522, 12, 0.1)
    assert config.masking.max_predictions == 20
    assert work(length=512).config().masking.max_predictions == 80
    assert config.model.compute_dtype == "bfloat16"
