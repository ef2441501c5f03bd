"""What fine-tuning starts from, keeps still, and leaves behind."""

import itertools
import re

import jax
import numpy as np
import pytest
from integration import corpus

from bert_jax.config import FinetuneConfig
from bert_jax.errors import InputError
from bert_jax.fields import build
from bert_jax.tasks import classify, saved_model
from bert_jax.training.checkpoint import Checkpoints
from bert_jax.training.logging import read_metrics
from bert_jax.training.paths import map_paths
from bert_jax.training.sharding import make_mesh


@pytest.fixture(scope="module", autouse=True)
def one_device():
    """Nothing here depends on how many there are, and eight on one machine cost time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classify, "make_mesh", lambda config: make_mesh(config, jax.devices()[:1]))
        yield


class Stop(Exception):
    """Ends a run where the test has seen enough."""


def flat(params):
    found = {}
    map_paths(lambda path, leaf: found.update({path: np.asarray(leaf)}), params)
    return found


def saved(workdir):
    model = saved_model.load(workdir)
    return flat(model.params(model.param_shapes))


def state_before_training(config, workdir, monkeypatch):
    """The parameters that the training loop is handed."""
    found = {}

    def train(state, *_, **__):
        found.update(flat(state.params))
        raise Stop

    monkeypatch.setattr(classify, "train", train)
    with pytest.raises(Stop):
        classify.run(config, workdir)
    return found


def test_encoder_and_pooler_are_those_of_the_pretraining(
    pretrained, reviews_path, tmp_path, monkeypatch
):
    config = corpus.finetune_config(reviews_path, pretrained)
    start = state_before_training(config, tmp_path, monkeypatch)
    wanted = saved(pretrained)
    shared = {path for path in wanted if path.startswith(("encoder/", "pooler/"))}
    assert set(start) == shared | {"classifier/dense/bias", "classifier/dense/kernel"}
    for path in shared:
        np.testing.assert_array_equal(start[path], wanted[path], err_msg=path)


@pytest.mark.parametrize(
    ("embeddings", "layers", "frozen"),
    [
        (True, 1, r"^encoder/(embeddings|layer_0)/"),
        (False, 2, r"^encoder/layer_[01]/"),
        (False, 0, r"^$"),
    ],
)
def test_frozen_parts_stay_to_the_bit_and_the_others_move(
    embeddings, layers, frozen, pretrained, reviews_path, tmp_path
):
    config = corpus.finetune_config(reviews_path, pretrained)
    config.update(freeze_embeddings=embeddings, freeze_layers=layers, epochs=1)
    config.optimizer.weight_decay = 0.1  # must not reach them either
    classify.run(config, tmp_path)
    before, after = saved(pretrained), saved(tmp_path)
    for path in sorted(before.keys() & after.keys()):
        if re.search(frozen, path):
            np.testing.assert_array_equal(after[path], before[path], err_msg=path)
        elif not path.endswith("key/bias"):  # softmax does not see it: no gradient
            assert (after[path] != before[path]).any(), path


@pytest.fixture(scope="module")
def from_scratch(data, reviews_path, tmp_path_factory):
    directory = tmp_path_factory.mktemp("scratch")
    config = corpus.finetune_config(reviews_path, "none", str(data / "tokenizer"))
    config.update(epochs=12, evals_per_epoch=1, patience=0)
    return directory, classify.run(config, directory)


def test_from_scratch_learns_the_words_that_tell(from_scratch):
    directory, best = from_scratch
    assert best["accuracy"] > 0.9
    model = saved_model.load(directory)
    assert (model.task, model.labels) == ("classify", ("好评", "差评"))


def test_from_scratch_is_no_pretrained_start(data, pretrained, reviews_path, tmp_path, monkeypatch):
    config = corpus.finetune_config(reviews_path, "none", str(data / "tokenizer"))
    start = state_before_training(config, tmp_path, monkeypatch)
    path = "encoder/layer_0/attention/query/kernel"
    assert (start[path] != saved(pretrained)[path]).any()


@pytest.mark.parametrize(
    ("metric", "curve", "best", "last"),
    [
        ("accuracy", [0.5, 0.9, 0.7, 0.8, 1.0, 1.0], 2, 4),
        ("accuracy", [0.5, 0.9, 0.9, 0.8, 1.0, 1.0], 3, 4),  # of equals the latest
        ("loss", [0.9, 0.2, 0.1, 0.5, 0.4, 0.0], 3, 5),
    ],
)
def test_stops_when_the_curve_turns_and_keeps_the_best(
    metric, curve, best, last, pretrained, reviews_path, tmp_path, monkeypatch
):
    config = corpus.finetune_config(reviews_path, pretrained)
    config.update(metric=metric, patience=2)
    values = iter(curve)
    monkeypatch.setattr(classify, "score", lambda *_: {metric: next(values)})
    seen = []
    save = Checkpoints.save

    def note(self, state, run, metrics):
        seen.append((int(state.step), flat(state.params)))
        save(self, state, run, metrics)

    monkeypatch.setattr(Checkpoints, "save", note)
    result = classify.run(config, tmp_path)
    logged = [p[metric] for p in read_metrics(tmp_path) if p["split"] == "validation"]
    assert logged == curve[:last]
    step, params = seen[best - 1]
    assert (result["step"], result[metric]) == (step, curve[best - 1])
    found = saved_model.load(tmp_path)
    assert found.step == step
    path = "classifier/dense/kernel"
    assert (params[path] != seen[-1][1][path]).any()
    for path, value in saved(tmp_path).items():
        np.testing.assert_array_equal(value, params[path], err_msg=path)


def test_patience_zero_goes_to_the_end(pretrained, reviews_path, tmp_path, monkeypatch):
    config = corpus.finetune_config(reviews_path, pretrained)
    config.update(patience=0, evals_per_epoch=4)
    values = itertools.count(0.9, -0.05)
    monkeypatch.setattr(classify, "score", lambda *_: {"accuracy": next(values)})
    classify.run(config, tmp_path)
    steps = [p["step"] for p in read_metrics(tmp_path) if p["split"] == "validation"]
    train = classify.read_splits(build(FinetuneConfig, config).data)["train"]
    epoch = -(-len(train) // 16)
    assert epoch % 4  # so that the parts of an epoch differ in length
    # Four an epoch, evenly, and none too many at the end of one.
    assert steps[3::4] == [epoch, 2 * epoch, 3 * epoch]
    assert {late - early for early, late in itertools.pairwise(steps)} == {
        epoch // 4,
        epoch // 4 + 1,
    }


def test_fine_tuning_on_several_processes_is_refused(
    pretrained, reviews_path, tmp_path, monkeypatch
):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(InputError, match=r"fine-tuning runs in one process and here are 2"):
        classify.run(corpus.finetune_config(reviews_path, pretrained), tmp_path / "out")
    assert not (tmp_path / "out").exists()
