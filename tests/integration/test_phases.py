"""A pretraining in phases: rows of 16 and then of 32, small batches and then large ones."""

import dataclasses
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from integration import corpus
from integration.test_resume import Interrupted, assert_same_run, interrupt_at, points

from bert_jax import errors
from bert_jax.config import PretrainConfig, build
from bert_jax.data import prepare
from bert_jax.errors import InputError
from bert_jax.model.bert import PretrainModel
from bert_jax.tasks import evaluate, heldout, pretrain
from bert_jax.tasks.phases import open_phases, rate_of
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
    return open_phases(build(PretrainConfig, config))


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
    assert phases[0].position(4)["dataset"] == phases[3].position(13)["dataset"]
    assert phases[0].position(4)["dataset"] != phases[2].position(11)["dataset"]


def test_phases_log_and_evaluate_at_their_ends(straight):
    found = [(p["step"], p["split"]) for p in points(straight)]
    train = [step for step, split in found if split == "train"]
    assert train == [2, 4, 5, 6, 7, 8, 10, 11, 12, 13]
    assert [step for step, split in found if split == "heldout"] == [4, 5, 7, 10, 11, 13]


@pytest.mark.parametrize(
    "stop", [8, *[pytest.param(stop, marks=pytest.mark.slow) for stop in (5, 12)]]
)
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
    objective = pretrain.make_objective(PretrainModel(config.model))
    losses = set()
    for host in (0, 1):
        phase = dataclasses.replace(phases[0], host=host, hosts=2)
        found = heldout.HeldOut(phase, objective, make_mesh(config.mesh), 0)
        losses.add(found._unigram_loss)
    logged = [p["unigram_loss"] for p in points(straight) if p["split"] == "heldout"]
    assert losses == {logged[0]}


def rates(config, steps):
    config, phases = resolved(config)
    rate = rate_of(config, phases)
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


def test_phases_of_two_vocabularies_are_refused(documents_path, data, tmp_path):
    config = corpus.prepare_config(documents_path)
    config.tokenizer.vocab_size = 300
    prepare.run(config, tmp_path / "other")
    config = corpus.pretrain_config(data)
    config.then = (phase(data=str(tmp_path / "other")),)
    with pytest.raises(InputError, match=r"other was prepared with another vocabulary than"):
        pretrain.run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


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


def test_a_run_that_learns_nothing_but_frequencies_says_so(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(heldout, "STUCK_STEPS", 6)
    config = corpus.pretrain_config(data)
    config.optimizer.learning_rate = 1e-9
    pretrain.run(config, tmp_path)
    text = capsys.readouterr().out
    said = [line for line in text.splitlines() if "still that of the pieces' frequencies" in line]
    assert [line.split(":")[0] for line in said] == ["step 6", "step 12"]
    entropy = heldout.unigram_entropy(resolved(config)[1][0].data)
    assert f"({entropy:.2f})" in said[0]


def test_the_remark_is_not_made_of_a_run_that_learns():
    remark = heldout.StuckRemark.__new__(heldout.StuckRemark)
    remark._next, remark._entropy, remark._has_learnt = 1000, 7.0, False
    losses = [(500, 8.0), (900, 6.8), (1000, 6.95), (2000, 6.99)]
    assert [remark(step, {"mlm_loss": loss}) for step, loss in losses] == [None] * 4
    remark._has_learnt = False
    steps = range(100, 5000, 100)
    assert [s for s in steps if remark(s, {"mlm_loss": 6.95})] == [1000, 2000, 4000]
