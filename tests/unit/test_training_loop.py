"""The loop on a model of one parameter: what it skips, saves, logs and stops for."""

import itertools
import json
import math
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bert_jax.config import MeshConfig
from bert_jax.errors import Diverged, InputError, Interrupted
from bert_jax.training.clock import COMPILING, STEPPING, WAITING, Clock
from bert_jax.training.interruption import Interruption
from bert_jax.training.logging import RunLog, read_metrics
from bert_jax.training.loop import At, Limits, Survival, train
from bert_jax.training.metrics import Mean
from bert_jax.training.profiling import Trace
from bert_jax.training.report import TIMING, Report, StepCost
from bert_jax.training.sharding import make_mesh
from bert_jax.training.state import init_state
from bert_jax.training.step import Objective, make_train_step


def losses(params, batch, key):
    """(w - x)^2 a row, and a token a row."""
    del key
    total = jnp.sum((params["w"] - batch) ** 2)
    count = jnp.asarray(batch.shape[0], jnp.float32)
    return {"square": Mean(total, count)}, {"tokens": Mean(count, jnp.ones(()))}


OBJECTIVE = Objective(lambda batch: {"square": jnp.asarray(batch.shape[0], jnp.float32)}, losses)


STEPS = Limits(12)


class Rig:
    """A training of at most 12 steps, whose saves are kept in memory."""

    def __init__(
        self,
        workdir,
        *,
        max_skipped=3,
        rate_of=lambda state: jnp.asarray(0.1),
        step=0,
        record=None,
        **clock,
    ):
        self.mesh = make_mesh(MeshConfig(1, 1, 1), jax.devices()[:1])
        optimizer = optax.trace(0.9)
        self.state = init_state(
            lambda key: {"w": jnp.ones(())}, optimizer, seed=0, prng="rbg", mesh=self.mesh
        )
        self.step = make_train_step(OBJECTIVE, optimizer, rate_of, mesh=self.mesh)
        workdir.mkdir(exist_ok=True)
        self.workdir = workdir
        self.saved = {}
        self.wait = lambda: None
        self.log = RunLog(workdir, step=step, total_steps=12, title="rig")
        self.report = Report(
            self.log,
            Clock(0.0, **clock) if clock else Clock(0.0),
            lambda batch: StepCost(padded_tokens=2 * len(batch), flops=1e6),
            peak_flops=None,
            shown={"square": "loss"},
            max_skipped=max_skipped,
            name_batch=lambda step: f"samples of {step}",
            record=record,
        )

    def batches(self, *, nan_at=(), signal_at=0, first=1):
        for number in itertools.count(first):
            if number == signal_at:
                os.kill(os.getpid(), signal.SIGTERM)
            value = math.nan if number in nan_at else 0.1 * number
            yield jnp.full((2,), value, jnp.float32)

    def train(self, batches, *, limits=STEPS, save_at=(), **options):
        def save(state, step, is_over):
            host = jax.device_get(state._replace(key=jax.random.key_data(state.key)))
            self.saved[step] = (host, json.loads(json.dumps(self.report.record())), is_over)

        with self.log, Interruption() as interruption:
            state, _ = train(
                self.state,
                self.step,
                batches,
                limits=limits,
                log_every=3,
                report=self.report,
                survival=Survival(save_at, save, lambda: self.wait(), interruption),
                **options,
            )
        return state

    def points(self):
        return [
            {name: value for name, value in point.items() if name not in TIMING}
            for point in read_metrics(self.workdir)
        ]


def test_an_update_that_is_not_finite_changes_nothing_and_counts_for_nothing(tmp_path, capsys):
    rig = Rig(tmp_path)
    rig.train(rig.batches(nan_at={2}), save_at=(1, 2))
    before, after = rig.saved[1][0], rig.saved[2][0]
    assert (int(before.step), int(after.step)) == (1, 2)
    assert before.params["w"] == after.params["w"]
    jax.tree.map(np.testing.assert_array_equal, before.optimizer, after.optimizer)
    first = rig.points()[0]
    assert first["skipped"] == 1
    # The mean of steps 1 and 3 alone.
    w = [1.0, float(before.params["w"])]
    expected = ((w[0] - 0.1) ** 2 + (w[1] - 0.3) ** 2) / 2
    assert first["square"] == pytest.approx(expected, rel=1e-5)
    assert first["loss"] == pytest.approx(expected, rel=1e-5)
    assert [point["skipped"] for point in rig.points()] == [1, 0, 0, 0]
    error = capsys.readouterr()
    text = error.out + error.err
    assert "step 2: the loss or its gradient is not finite, the update is skipped" in text
    assert "(samples of 2)" in text


def test_a_gradient_that_is_not_finite_is_skipped_too(tmp_path):
    def infinite_slope(params, batch, key):
        found, extra = losses(params, batch, key)
        # sqrt has a finite value and an infinite slope at 0.
        bad = jnp.sqrt(jnp.where(batch[0] > 0.15, params["w"] * 0, 1.0))
        return {"square": Mean(found["square"].total + bad, found["square"].weight)}, extra

    rig = Rig(tmp_path)
    rig.step = make_train_step(
        Objective(OBJECTIVE.weights, infinite_slope),
        optax.trace(0.9),
        lambda s: jnp.asarray(0.1),
        mesh=rig.mesh,
    )
    # The third bad step is looked at once the fourth has been dispatched.
    with pytest.raises(Diverged, match=r"the updates of 4 steps in a row were skipped"):
        rig.train(rig.batches())
    assert list(rig.saved) == [5]
    assert float(rig.saved[5][0].params["w"]) == pytest.approx(1 - 0.1 * 2 * 0.9, rel=1e-6)


def test_a_run_ended_by_skipped_updates_goes_on_once_it_is_mended(tmp_path):
    rig = Rig(tmp_path)
    with pytest.raises(InputError, match="4 steps in a row"):
        rig.train(rig.batches(nan_at={2, 3, 4, 5}))
    host, record, _ = rig.saved[5]
    again = Rig(tmp_path, step=5, record=record)
    again.state = again.state._replace(step=jnp.asarray(host.step), params=host.params)
    assert int(again.train(again.batches(first=6)).step) == 12


def test_a_run_whose_last_updates_were_all_skipped_does_not_pass_for_done(tmp_path):
    rig = Rig(tmp_path)
    with pytest.raises(InputError, match="steps in a row"):
        rig.train(rig.batches(nan_at={10, 11, 12}))
    assert list(rig.saved) == [12]


def test_a_step_is_called_saved_once_it_is(tmp_path):
    def full():
        raise InputError("the disk is full")

    rig = Rig(tmp_path)
    rig.wait = full
    with pytest.raises(InputError, match="the disk is full"):
        rig.train(rig.batches(signal_at=5))


def test_skipped_updates_must_be_in_a_row_to_end_the_run(tmp_path):
    rig = Rig(tmp_path)
    state = rig.train(rig.batches(nan_at={1, 2, 4, 5, 7, 8}))
    assert int(state.step) == 12
    assert [point["skipped"] for point in rig.points()] == [2, 2, 2, 0]


def test_a_sigterm_saves_between_two_log_points_and_leaves_no_point(tmp_path):
    straight = Rig(tmp_path / "straight")
    straight.train(straight.batches(), save_at=(12,))
    rig = Rig(tmp_path / "stopped")
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted, match=r"SIGTERM with step 5 saved: run the same command"):
        rig.train(rig.batches(signal_at=5))
    assert signal.getsignal(signal.SIGTERM) == before
    host, record, is_over = rig.saved[5]
    assert not is_over
    assert [point["step"] for point in rig.points()] == [3]
    # Gone on with, the second window is logged as if nothing had been.
    again = Rig(tmp_path / "stopped", step=5, record=record)
    again.state = again.state._replace(
        step=jnp.asarray(host.step), params=host.params, optimizer=host.optimizer
    )
    again.train(again.batches(first=6), save_at=(12,))
    assert again.points() == straight.points()
    np.testing.assert_array_equal(again.saved[12][0].params["w"], straight.saved[12][0].params["w"])


def test_a_sigterm_in_the_last_step_is_too_late_to_matter(tmp_path):
    rig = Rig(tmp_path)
    assert int(rig.train(rig.batches(signal_at=12)).step) == 12
    assert list(rig.saved) == [12]


def test_a_sigterm_while_the_last_save_is_written_is_too_late_too(tmp_path):
    rig = Rig(tmp_path)
    told = []

    def wait():
        os.kill(os.getpid(), signal.SIGTERM)
        told.append(sorted(rig.saved))

    rig.wait = wait
    assert int(rig.train(rig.batches()).step) == 12
    assert told == [[12]]


def test_evaluations_come_before_the_save_of_their_step_and_may_end_the_run(tmp_path):
    rig = Rig(tmp_path)
    seen = []

    def measure(state, step):
        seen.append((step, step in rig.saved))
        return step == 8

    state = rig.train(rig.batches(), save_at={4, 8}, evaluations=[At({4, 8}, measure)])
    assert int(state.step) == 8
    assert seen == [(4, False), (8, False)]
    assert {step: is_over for step, (_, _, is_over) in rig.saved.items()} == {4: False, 8: True}
    assert [point["step"] for point in rig.points()] == [3, 4, 6, 8]


class FakeTime:
    """A clock that moves a second with every batch."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now

    def batches(self, batches, seconds=1.0):
        for batch in batches:
            self.now += seconds
            yield batch


def test_a_schedule_by_time_lands_when_the_time_is_up(tmp_path):
    time = FakeTime()

    def rate_of(state):  # straight down over the time
        return 1.0 - state.budget_used

    rig = Rig(tmp_path, rate_of=rate_of, now=time)
    state = rig.train(time.batches(rig.batches()), limits=Limits(12, seconds=9.0))
    # The clock is read at the points of steps 3, 6 and 9.
    assert int(state.step) == 9
    assert rig.saved[9][2]
    rates = [point["learning_rate"] for point in rig.points()]
    np.testing.assert_allclose(rates, [1, 1 - 3 / 9, 1 - 6 / 9], rtol=1e-6)
    assert float(state.budget_used) == 1.0


def test_time_spent_before_a_restart_counts_and_time_between_does_not(tmp_path):
    time = FakeTime()
    record = {"clock": {"spent": {STEPPING: 6.0}}}
    rig = Rig(tmp_path, record=record, now=time)
    rig.report.clock = Clock(0.0, record["clock"], now=time)
    state = rig.train(time.batches(rig.batches()), limits=Limits(12, seconds=9.0))
    assert int(state.step) == 3


def test_a_run_whose_time_is_up_does_a_last_step_and_is_over(tmp_path):
    time = FakeTime()
    record = {"clock": {"spent": {STEPPING: 20.0}}}
    rig = Rig(tmp_path, now=time)
    rig.report.clock = Clock(0.0, record["clock"], now=time)
    state = rig.train(time.batches(rig.batches()), limits=Limits(12, seconds=9.0))
    assert int(state.step) == 1
    assert {step: is_over for step, (_, _, is_over) in rig.saved.items()} == {1: True}
    assert [point["step"] for point in rig.points()] == [1]


def test_steps_end_a_run_whose_time_is_not_up(tmp_path):
    time = FakeTime()
    rig = Rig(tmp_path, now=time)
    assert int(rig.train(time.batches(rig.batches()), limits=Limits(12, seconds=99.0)).step) == 12


def test_a_trace_of_chosen_steps(tmp_path):
    rig = Rig(tmp_path)
    with Trace(tmp_path, start=4, steps=2) as trace:
        rig.train(rig.batches(), trace=trace)
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))


def test_what_a_point_tells(tmp_path):
    time = FakeTime()
    rig = Rig(tmp_path, now=time)
    rig.report._peak_flops = 2e6
    rig.train(time.batches(rig.batches(), seconds=0.5), limits=Limits(3))
    (point,) = read_metrics(tmp_path)
    # All time passes while waiting for data here.
    assert point["step_ms"] == pytest.approx(500)
    assert point["data_wait_share"] == pytest.approx(1)
    assert point["tokens_per_second"] == pytest.approx(4)
    assert point["padded_tokens_per_second"] == pytest.approx(8)
    assert point["mfu"] == pytest.approx(1.0)  # 1e6 in half a second
    assert point["goodput"] == 0
    assert point["parameter_norm"] == pytest.approx(abs(float(rig.saved[3][0].params["w"])))


def test_each_shape_compiles_once_and_each_batch_counts_for_itself(tmp_path, monkeypatch):
    time = FakeTime()
    rig = Rig(tmp_path, now=time)
    rig.report._peak_flops = 1e6
    spent, spend = [], rig.report.clock.spend
    monkeypatch.setattr(rig.report.clock, "spend", lambda on: spent.append(on) or spend(on))
    batches = [jnp.full((size,), 0.1, jnp.float32) for size in (2, 2, 3, 2, 3)]
    rig.train(time.batches(iter(batches), seconds=1), limits=Limits(5))
    assert [on for on in spent if on in (COMPILING, WAITING)] == [
        *(WAITING, COMPILING, WAITING, WAITING, COMPILING, WAITING, WAITING),
    ]
    first, second = read_metrics(tmp_path)
    assert (first["padded_tokens_per_second"], second["padded_tokens_per_second"]) == (14 / 3, 5)
    assert (first["mfu"], second["mfu"]) == (1, 1)
