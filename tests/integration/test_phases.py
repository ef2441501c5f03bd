"""A pretraining in phases: rows of 16 and then of 32, small batches and then large ones."""

import dataclasses
import itertools
import math
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from integration import corpus
from integration.test_resume import Interrupted, assert_same_run, interrupt_at, points

from bert_jax import errors
from bert_jax.config import PretrainConfig
from bert_jax.data import prepare
from bert_jax.errors import InputError
from bert_jax.fields import build
from bert_jax.model.bert import PretrainModel
from bert_jax.tasks import evaluate, heldout, pretrain
from bert_jax.tasks.phases import Data, open_phases, position, rate_of
from bert_jax.training.checkpoint import BEST_METRIC, Checkpoints
from bert_jax.training.clock import Clock
from bert_jax.training.interruption import Interruption
from bert_jax.training.sharding import make_mesh
from bert_jax.training.state import TrainState


def phase(**changes):
    return (
        dict(
            data="",
            steps=4,
            batch_size=16,
            microbatches=1,
            max_predictions=6,
            learning_rate=0.0,
            warmup_fraction=0.0,
        )
        | changes
    )


@pytest.fixture(scope="module")
def short_data(documents_path, data, tmp_path_factory):
    """The same documents and vocabulary in rows of 16."""
    directory = tmp_path_factory.mktemp("short")
    config = corpus.prepare_config(documents_path)
    config.instances.length = 16
    config.tokenizer.path = str(data / "tokenizer")
    prepare.run(config, directory)
    return directory


def phased_config(short_data, data, last_predictions=1):
    """Rows of 16 in batches of 8, of 16, then rows of 32, then the short rows again."""
    config = corpus.pretrain_config(short_data)
    config.steps = 4
    config.then = (
        phase(steps=3),
        phase(data=str(data), steps=4, microbatches=2),
        phase(data=str(short_data), steps=2, batch_size=8, max_predictions=last_predictions),
    )
    config.update(log_every=2, eval_every=5, eval_batches=0, save_every=3)
    config.model.layers = 1  # there are three shapes to compile
    return config


@pytest.fixture(scope="module")
def straight(short_data, data, tmp_path_factory):
    directory = tmp_path_factory.mktemp("phased")
    pretrain.run(phased_config(short_data, data), directory)
    return directory


def resolved(config):
    return open_phases(build(PretrainConfig, config), None)


def test_every_sample_is_read_once_and_in_order(short_data, data):
    config = phased_config(short_data, data, last_predictions=6)  # the same masks throughout
    _, phases = resolved(config)
    assert [(p.first, p.last) for p in phases] == [(0, 4), (4, 7), (7, 11), (11, 13)]
    read = [p.training_batches()[s].tokens.ids for p in phases for s in range(p.last - p.first)]
    assert [ids.shape for ids in read] == [
        *[(8, 16)] * 4, *[(16, 16)] * 3, *[(16, 32)] * 4, *[(8, 16)] * 2,
    ]  # fmt: skip
    # In one phase of batches of 8 the short rows come in the same order.
    plain = corpus.pretrain_config(short_data)
    (alone,) = resolved(plain)[1]
    rows = np.concatenate([ids for ids in read if ids.shape[1] == 16])
    batches = alone.training_batches()
    np.testing.assert_array_equal(
        rows, np.concatenate([batches[s].tokens.ids for s in range(len(rows) // 8)])
    )


def test_positions_count_the_samples_of_their_own_rows(short_data, data):
    _, phases = resolved(phased_config(short_data, data))
    assert [p.samples(p.last) for p in phases] == [32, 80, 64, 96]
    assert phases[1].batch_name(5).startswith("samples 32 to 47 of ")
    assert [position(phases, step)["samples"] for step in (4, 7, 11, 13)] == [32, 80, 64, 96]
    rows = position(phases, 0)["datasets"]
    assert rows[0] == rows[1] == rows[3] != rows[2]


def test_phases_log_and_evaluate_at_their_ends(straight):
    found = [(p["step"], p["split"]) for p in points(straight)]
    train = [step for step, split in found if split == "train"]
    assert train == [2, 4, 5, 6, 7, 8, 10, 11, 12, 13]
    assert [step for step, split in found if split == "heldout"] == [4, 5, 7, 10, 11, 13]


@pytest.mark.slow
@pytest.mark.parametrize("stop", [5, 8, 12])
def test_a_phased_run_interrupted_anywhere_goes_on(
    stop, straight, short_data, data, tmp_path, monkeypatch
):
    config = phased_config(short_data, data)
    with monkeypatch.context() as patch:
        interrupt_at(patch, stop)
        with pytest.raises(Interrupted):
            pretrain.run(config, tmp_path)
    pretrain.run(config, tmp_path)
    assert_same_run(tmp_path, straight)


@pytest.mark.slow
def test_a_sigterm_in_the_last_step_of_a_phase_ends_the_run_there(
    straight, short_data, data, tmp_path, monkeypatch
):
    config = phased_config(short_data, data)
    with monkeypatch.context() as patch:
        is_due = Interruption.is_due

        def told(self, step):
            if step == 4:
                os.kill(os.getpid(), signal.SIGTERM)
            return is_due(self, step)

        patch.setattr(Interruption, "is_due", told)
        with pytest.raises(errors.Interrupted, match="with step 4 saved"):
            pretrain.run(config, tmp_path)
    pretrain.run(config, tmp_path)
    assert_same_run(tmp_path, straight)


def test_other_rows_are_evaluated_as_those_of_the_last_phase(straight, short_data):
    moved = evaluate.run({"task": "pretrain", "data": str(short_data)}, straight)
    assert moved == evaluate.run({"task": "pretrain", "data": ""}, straight)


def test_the_unigram_loss_is_that_of_the_rows_of_all_hosts(straight, short_data, data):
    config, phases = resolved(phased_config(short_data, data))
    objective = pretrain.make_objective(PretrainModel(config.model, None))
    losses = set()
    for host in (0, 1):
        phase = dataclasses.replace(phases[0], host=host, hosts=2)
        found = heldout.HeldOut(phase, objective, make_mesh(config.mesh), 0)
        losses.add(found._unigram_loss)
    logged = [p["unigram_loss"] for p in points(straight) if p["split"] == "heldout"]
    assert losses == {logged[0]}


def rates(config, steps):
    config, _ = resolved(config)
    rate = rate_of(config)
    return [
        float(rate(TrainState(jnp.asarray(s), {}, {}, jax.random.key(0), jnp.zeros(()))))
        for s in steps
    ]


def test_one_schedule_goes_through_all_phases(short_data, data):
    config = phased_config(short_data, data)
    config.optimizer.update(learning_rate=1.0, warmup_fraction=2 / 13, schedule="linear")
    expected = [0, 0.5, *[(13 - t) / 11 for t in range(2, 14)]]
    np.testing.assert_allclose(rates(config, range(14)), expected, rtol=1e-5)


def test_a_phase_with_a_rate_has_its_own_schedule(short_data, data):
    config = phased_config(short_data, data)
    config.optimizer.update(learning_rate=1.0, warmup_fraction=0.0, schedule="linear")
    config.then = (phase(steps=3), phase(steps=4, learning_rate=8.0, warmup_fraction=0.5))
    first = [1 - t / 7 for t in range(7)]
    np.testing.assert_allclose(rates(config, range(12)), [*first, 0, 4, 8, 4, 0], rtol=1e-5)


def test_evaluation_takes_the_rows_of_the_last_phase(straight, short_data):
    found = evaluate.run({"task": "pretrain", "data": ""}, straight)
    last = points(straight)[-1]
    for name in ("mlm_loss", "next_loss", "unigram_loss", "pseudo_perplexity"):
        assert found[name] == pytest.approx(last[name], rel=1e-6)
    assert last["pseudo_perplexity"] == pytest.approx(np.exp(last["mlm_loss"]), rel=1e-6)


@pytest.fixture(scope="module")
def other_pieces(documents_path, tmp_path_factory):
    """A preparation of the same text with another vocabulary."""
    config = corpus.prepare_config(documents_path)
    config.tokenizer.vocab_size = 300
    directory = tmp_path_factory.mktemp("pieces")
    prepare.run(config, directory)
    return directory


def test_phases_of_two_vocabularies_are_refused(other_pieces, data, tmp_path):
    config = corpus.pretrain_config(data)
    config.then = (phase(data=str(other_pieces)),)
    message = rf"^{other_pieces} was prepared with another vocabulary than {data}: prepare it with"
    with pytest.raises(InputError, match=message):
        pretrain.run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_rows_of_another_vocabulary_are_not_evaluated_on(other_pieces, pretrained):
    message = (
        rf"another vocabulary than {pretrained} was trained with: name the dataset of that run"
    )
    with pytest.raises(InputError, match=message):
        evaluate.run({"task": "pretrain", "data": str(other_pieces)}, pretrained)


def test_a_phase_that_does_not_fit_names_its_field(data, tmp_path):
    config = corpus.pretrain_config(data)
    config.then = (phase(data=str(tmp_path / "nothing")),)
    with pytest.raises(InputError, match=r"nothing"):
        pretrain.run(config, tmp_path / "run")


def test_changed_phases_under_a_run_are_refused(straight, short_data, data, tmp_path):
    config = phased_config(short_data, data)
    config.then = (phase(steps=5), *config.then[1:])
    with pytest.raises(InputError, match=r"config\.then\[0\]\.steps=3, and this one has 5"):
        pretrain.run(config, straight)


@pytest.mark.slow
def test_a_run_that_learns_nothing_but_frequencies_says_so(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(heldout, "STUCK_STEPS", 6)
    config = corpus.pretrain_config(data)
    config.optimizer.update(learning_rate=1e-9, warmup_fraction=0.0)
    pretrain.run(config, tmp_path)
    text = capsys.readouterr().out
    said = [line for line in text.splitlines() if "still that of the pieces' frequencies" in line]
    assert [line.split(":")[0] for line in said] == ["step 6", "step 12"]
    entropy = heldout.unigram_entropy(resolved(config)[1][0].data)
    assert f"({entropy:.2f})" in said[0]


@pytest.fixture
def frequencies(data):
    """The rows of a run, and the masked loss of one that has learnt nothing but frequencies."""
    opened = Data.open(str(data), field="config.data")
    return opened, heldout.unigram_entropy(opened)


def remarks(rows, loss_at, rate_at, steps):
    remark = heldout.StuckRemark(rows)
    points = [(s, {"mlm_loss": loss_at(s), "learning_rate": rate_at(s)}) for s in steps]
    return [step for step, point in points if remark(step, point)]


def test_the_remark_is_not_made_of_a_run_that_learns(frequencies):
    rows, entropy = frequencies
    losses = {500: 1.0, 900: -0.2, 1000: -0.05, 2000: -0.01}
    assert remarks(rows, lambda s: entropy + losses[s], lambda s: 1.0, losses) == []


def test_the_remark_waits_for_twice_the_warm_up_however_long_that_is(frequencies):
    rows, entropy = frequencies
    steps = range(100, 9000, 100)

    def rate_at(step):
        return min(step, 1600) / 1600 - step * 1e-9

    assert remarks(rows, lambda s: entropy, lambda s: 1 - 1e-9 * (s % 200), steps) == [
        *(1000, 2000, 4000, 8000)
    ]
    assert remarks(rows, lambda s: entropy, rate_at, steps) == [3200, 6400]
    # A window of which nothing is known moves nothing.
    holes = (math.nan if s == 1600 else entropy for s in steps)
    assert remarks(rows, lambda s: next(holes), lambda s: 1.0, steps) == [1000, 2000, 4000, 8000]


def test_skipped_updates_in_a_row_are_counted_through_the_end_of_a_phase(
    short_data, data, tmp_path, monkeypatch
):
    iterate = pretrain.pipeline.iterate_from
    taken = itertools.count(1)

    def planted(batches, first):
        for batch in iterate(batches, first):
            if next(taken) in (3, 4, 5):  # an id the model reads as NaN; step 4 ends a phase
                batch.tokens.ids[0, 1] = 10**6
            yield batch

    monkeypatch.setattr(pretrain.pipeline, "iterate_from", planted)
    config = phased_config(short_data, data)
    config.max_skipped = 3
    with pytest.raises(InputError, match=r"the updates of 3 steps in a row were skipped"):
        pretrain.run(config, tmp_path)


def test_other_rows_of_a_phase_to_come_are_refused_at_once(
    short_data, data, documents_path, tmp_path, monkeypatch
):
    config = phased_config(short_data, data)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 4)
        with pytest.raises(Interrupted):
            pretrain.run(config, tmp_path / "run")
    other = corpus.prepare_config(documents_path)
    other.seed += 1
    other.tokenizer.path = str(data / "tokenizer")
    prepare.run(other, tmp_path / "other")
    config.then[1]["data"] = str(tmp_path / "other")  # from step 8 on
    with pytest.raises(InputError, match=r"the rows of \S*other are not those this run began"):
        pretrain.run(config, tmp_path / "run")


def test_the_best_checkpoint_is_one_of_the_newest_phase_that_was_measured(straight):
    # Steps 4, 7, 11 and 13 were measured and saved, on other rows each.
    with Checkpoints(straight, best_metric=BEST_METRIC) as checkpoints:
        assert checkpoints.best() == 13


def test_a_run_by_the_clock_ends_when_it_is_up_and_stays_ended(data, tmp_path, monkeypatch):
    config = corpus.pretrain_config(data)
    config.update(budget_minutes=100.0, log_every=2)
    elapsed = Clock.elapsed
    # Once two points are logged the clock says that the time is up.
    monkeypatch.setattr(
        Clock,
        "elapsed",
        lambda self: 6000.0 if has_points(tmp_path, 2) else elapsed(self),
    )
    last = pretrain.run(config, tmp_path)
    found = points(tmp_path)
    assert [p["step"] for p in found if p["split"] == "train"] == [2, 4, 6]
    assert (last["step"], last["split"]) == (6, "heldout")
    assert pretrain.run(config, tmp_path) == last
    assert points(tmp_path) == found


def has_points(workdir, count):
    path = workdir / "metrics.jsonl"
    return path.exists() and path.read_text("utf-8").count("train") >= count


@pytest.mark.slow
def test_a_trace_of_a_pretraining(data, tmp_path):
    config = corpus.pretrain_config(data)
    config.update(profile_start=5, profile_steps=2)
    pretrain.run(config, tmp_path)
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))
