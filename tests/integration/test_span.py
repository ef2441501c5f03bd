"""Answers that stand behind a mark are learnt, found again and written down."""

import copy
import json
import random
import shutil

import jax
import pytest
import small
from integration import corpus

from bert_jax.errors import InputError
from bert_jax.tasks import conversion, evaluate, finetune, saved_model
from bert_jax.tasks.conversion import Options
from bert_jax.tasks.predict import Predictor
from bert_jax.tasks.task import Text
from bert_jax.training.sharding import make_mesh
from configs import finetune_squad

MARK = "好"


@pytest.fixture(scope="module", autouse=True)
def one_device():
    """Nothing here depends on how many there are, and eight on one machine cost time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetune, "make_mesh", lambda config: make_mesh(config, jax.devices()[:1]))
        yield


def paragraphs(count, seed):
    """Letters with a mark, and the answer behind it; without a mark there is none."""
    rng = random.Random(seed)
    found = []
    for number in range(count):
        letters = rng.choices("BCDEFGHIJ", k=5)
        place = rng.randrange(5)
        mark = MARK if number % 3 else "差"
        text = " ".join([*letters[:place], mark + letters[place], *letters[place + 1 :]])
        start = text.index(mark) + 1
        answers = [{"text": letters[place], "answer_start": start}] if number % 3 else []
        question = {
            "id": f"{seed}-{number}", "question": "a", "answers": answers,
            "is_impossible": not answers,
        }  # fmt: skip
        found.append({"context": text, "qas": [question]})
    return found


def write(path, count, seed):
    path.write_text(json.dumps({"data": [{"paragraphs": paragraphs(count, seed)}]}), "utf-8")
    return str(path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("span")
    small.tokenizer().save(root / "tokenizer")
    config = corpus.finetune_config("", "none", str(root / "tokenizer"))
    config.task = "span"
    config.data = finetune_squad.get_config("tiny").data
    config.data.update(
        train=write(root / "train.json", 400, 1),
        validation=write(root / "dev.json", 60, 2),
        test=write(root / "test.json", 60, 3),
    )
    config.model.update(dropout=0.0, attention_dropout=0.0)
    config.update(
        metric="f1", max_length=16, window_overlap=2, epochs=8, evals_per_epoch=1, patience=0
    )
    return config, root / "run", finetune.run(config, root / "run")


def convert(source, to, form):
    options = dict.fromkeys(("model_config", "tokenizer", "allow_missing", "allow_unknown"), "")
    paths = dict(source=str(source), to=str(to))
    conversion.run(Options(**paths, format=form, add_words="", positions=0, **options))


def test_a_long_question_is_named(trained):
    predict = Predictor(saved_model.load(trained[1]))
    with pytest.raises(InputError, match=r"^here has a question of 7 pieces, of which 6 are read"):
        predict([Text(f"b {MARK}c", "a " * 7, "here")])


def test_the_answer_behind_the_mark_is_learnt(trained):
    config, workdir, best = trained
    assert best["f1"] > 0.9
    found = evaluate.run(config, workdir)
    assert found["f1"] > 0.9
    # A letter is right or not: both are one.
    assert found["exact_match"] == found["f1"]
    assert found["best_f1"] >= found["f1"]
    said = json.loads((workdir / "predictions.json").read_text("utf-8"))
    right = 0
    for paragraph in paragraphs(60, 3):
        (question,) = paragraph["qas"]
        answer = question["answers"][0]["text"] if question["answers"] else ""
        right += said[question["id"]].lower() == answer.lower()
    assert found["f1"] == pytest.approx(right / 60)
    odds = json.loads((workdir / "null_odds.json").read_text("utf-8"))
    assert odds.keys() == said.keys()
    assert all((odds[name] > 0) == (said[name] == "") for name in said)


def test_what_another_evaluation_has_left_goes(trained, tmp_path):
    config, workdir, _ = trained
    run = shutil.copytree(workdir, tmp_path / "run")
    for name in ("null_odds.json", "notes.json"):
        (run / name).write_text("{}")
    answered = [each for each in paragraphs(20, 3) if each["qas"][0]["answers"]]
    test = tmp_path / "test.json"
    test.write_text(json.dumps({"data": [{"paragraphs": answered}]}), "utf-8")
    config = copy.deepcopy(config)
    config.data.test = str(test)
    evaluate.run(config, run)
    assert not (run / "null_odds.json").exists()
    assert (run / "notes.json").exists()
    assert len(json.loads((run / "predictions.json").read_text("utf-8"))) == len(answered)


def test_it_answers_with_the_place_in_the_text(trained, tmp_path):
    _, workdir, _ = trained
    texts = [Text(f"B C {MARK}D E F", "a", "one"), Text("B C 差D E F", "a", "two")]
    first, second = Predictor(saved_model.load(workdir))(texts)
    assert (first["answer"], first["start"], first["end"]) == ("D", 5, 6)
    assert second["answer"] == ""
    assert first["best"][0]["answer"] == "D"
    assert len(first["best"]) == 3
    # Its windows overlap, so that a longer text is no error.
    long = " ".join("BCDEFGHIJBCDEFG")
    (found,) = Predictor(saved_model.load(workdir))([Text(f"{long} B C {MARK}D E F", "a", "x")])
    assert found["text"][found["start"] : found["end"]] == found["answer"]

    convert(workdir, tmp_path / "hf", "huggingface")
    convert(tmp_path / "hf", tmp_path / "back", "bert_jax")
    config = json.loads((tmp_path / "hf" / "config.json").read_text("utf-8"))
    assert config["architectures"] == ["BertForQuestionAnswering"]
    again = Predictor(saved_model.load(tmp_path / "back"))(texts)
    assert again[0]["answer"] == "D"
    assert again[0]["probability"] == pytest.approx(first["probability"], rel=1e-5)
