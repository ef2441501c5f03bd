"""A small task of choices, learnt, evaluated and asked."""

import json
import random

import jax
import pytest
from integration import corpus

from bert_jax.errors import InputError
from bert_jax.tasks import evaluate, finetune, saved_model
from bert_jax.tasks.predict import Predictor
from bert_jax.tasks.task import Text
from bert_jax.training.sharding import make_mesh

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def one_device():
    """Nothing here depends on how many there are, and eight on one machine cost time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetune, "make_mesh", lambda config: make_mesh(config, jax.devices()[:1]))
        yield


def rows(count, seed):
    """Two to four choices, one of which praises."""
    rng = random.Random(seed)
    found = []
    for number in range(count):
        choices = rng.sample(corpus.BAD, rng.randint(1, 3))
        label = rng.randint(0, len(choices))
        choices.insert(label, rng.choice(corpus.GOOD))
        text = f"{number}{rng.choice(corpus.PLACES)}"
        found.append({"text": text, "choices": choices, "label": label})
    return found


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("choice")
    path = folder / "rows.jsonl"
    lines = (json.dumps(row, ensure_ascii=False) for row in rows(240, 0))
    path.write_text("\n".join(lines), "utf-8")
    config = corpus.finetune_config(path, "none", str(data / "tokenizer"))
    config.task = "choice"
    config.data.choice_fields = ("choices",)
    config.update(epochs=6, evals_per_epoch=1, patience=0)
    best = finetune.run(config, folder / "run")
    return config, folder / "run", best


def test_the_right_choice_is_learnt(run):
    config, workdir, best = run
    assert best["accuracy"] > 0.9  # blindly a third
    found = evaluate.run(config, workdir)
    assert found["accuracy"] > 0.9
    assert 0 <= found["calibration_error"] < 0.5
    page = (workdir / "report.html").read_text("utf-8")
    assert "most confident mistakes" in page
    assert page.count("data:image/png;base64,") == 1


def test_a_choice_is_made(run):
    predict = Predictor(saved_model.load(run[1]))
    texts = [Text("老街的茶楼", "", "here", ("糟糕", "温暖", "难吃", "失望", "冷淡"))] * 2
    for found in (*predict(texts), *predict(texts[:1])):
        assert (found["choice"], found["number"]) == ("温暖", 1)
        assert sum(found["probabilities"]) == pytest.approx(1)
        assert len(found["probabilities"]) == 5  # more than any row of the training had
    with pytest.raises(InputError, match="here has no choices and the model chooses"):
        predict([Text("老街的茶楼", "", "here")])
