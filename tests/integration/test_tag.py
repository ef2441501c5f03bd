"""Names in sentences, learnt from nothing: windows, scores, predictions, and out to others."""

import itertools
import json
import random

import jax
import pytest
from integration import corpus

from bert_jax.errors import InputError
from bert_jax.tasks import conversion, evaluate, finetune, saved_model
from bert_jax.tasks.predict import Predictor
from bert_jax.tasks.task import Text
from bert_jax.text.pieces import SPECIAL_PIECES
from bert_jax.text.tags import entities
from bert_jax.training.sharding import make_mesh

LENGTH = 16  # tokens, and most sentences are longer


@pytest.fixture(scope="module", autouse=True)
def one_device():
    """Nothing here depends on how many there are, and eight on one machine cost time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetune, "make_mesh", lambda config: make_mesh(config, jax.devices()[:1]))
        yield


def bmes(name, kind):
    letters = "S" if len(name) == 1 else "B" + "M" * (len(name) - 2) + "E"
    return [
        (character, f"{letter}-{kind}") for character, letter in zip(name, letters, strict=True)
    ]


def sentences(count, seed=0):
    """(character, tag) rows: places are LOC, people PER."""
    rng = random.Random(seed)
    found = {}
    while len(found) < count:
        place, person, day, thing = map(
            rng.choice, (corpus.PLACES, corpus.PEOPLE, corpus.DAYS, corpus.THINGS)
        )
        parts = [bmes(place, "LOC"), bmes(person, "PER"), [(c, "O") for c in f"{day}有{thing}，"]]
        rng.shuffle(parts)
        row = [*itertools.chain(*parts)]
        found["".join(character for character, _ in row)] = row
    return list(found.values())


def write(path, rows):
    blocks = ["".join(f"{word}\t{tag}\n" for word, tag in row) for row in rows]
    path.write_text("\n".join(blocks), "utf-8")
    return path


def config_of(path, data):
    config = corpus.finetune_config(path, "none", str(data / "tokenizer"))
    config.task = "tag"
    config.metric = "f1"
    config.update(max_length=LENGTH, window_overlap=6, epochs=8, evals_per_epoch=1, patience=0)
    config.model.update(dropout=0.0, attention_dropout=0.0)  # of so few rows little is learnt
    config.optimizer.learning_rate = 6e-3
    return config


@pytest.fixture(scope="module")
def tagged_path(tmp_path_factory):
    return write(tmp_path_factory.mktemp("tagged") / "train.conll", sentences(240))


@pytest.fixture(scope="module")
def tagger(tagged_path, data, tmp_path_factory):
    directory = tmp_path_factory.mktemp("tagger")
    return directory, finetune.run(config_of(tagged_path, data), directory)


def test_names_are_learnt(tagger):
    directory, best = tagger
    assert best["f1"] > 0.9
    found = saved_model.load(directory)
    assert found.task == "tag"
    kinds = [f"{letter}-{kind}" for kind in ("LOC", "PER") for letter in "BMES"]
    assert found.labels == ("O", *kinds)  # S-PER was never seen, and is of the scheme


def test_names_are_evaluated_by_type(tagger, tagged_path, data):
    directory, _ = tagger
    result = evaluate.run(config_of(tagged_path, data), directory)
    assert result["f1"] > 0.9
    assert result["scheme"] == "BMES"
    assert set(result["types"]) == {"LOC", "PER"}
    assert sum(one["entities"] for one in result["types"].values()) == 2 * result["rows"]
    assert json.loads((directory / evaluate.EVALUATION).read_text("utf-8")) == result


def ask(directory, *texts):
    return Predictor(saved_model.load(directory))([Text(text, "", "here") for text in texts])


def test_names_are_found_in_texts_by_their_characters(tagger):
    directory, _ = tagger
    rows = sentences(20)
    there = {
        (number, kind, start, end)
        for number, row in enumerate(rows)
        for kind, start, end in entities([tag for _, tag in row])
    }
    texts = ["".join(character for character, _ in row) for row in rows]
    answers = ask(directory, *texts)
    found = {
        (number, one["type"], one["start"], one["end"])
        for number, answer in enumerate(answers)
        for one in answer["entities"]
    }
    assert len(there & found) > 0.8 * len(there | found)


def test_a_long_text_is_answered_to_its_end(tagger):
    directory, _ = tagger
    text = " 春天有雨伞，\n城南的书店\u200b河边的旅馆 春天有雨伞，店员城南的书店"
    (found,) = ask(directory, text)
    assert max(one["start"] for one in found["entities"]) > 1.5 * LENGTH
    for one in found["entities"]:
        assert text[one["start"] : one["end"]] == one["text"]
        assert 1 / 9 < one["probability"] <= 1
    assert ask(directory, "\u200b") == [{"text": "\u200b", "entities": []}]


def convert(source, to, form):
    options = {"model_config": "", "tokenizer": "", "allow_missing": "", "allow_unknown": ""}
    rest = {"add_words": "", "positions": 0}
    conversion.run(
        conversion.Options(source=str(source), to=str(to), format=form, **options, **rest)
    )
    return to


def test_a_tagger_goes_out_and_comes_back(tagger, tmp_path):
    directory, _ = tagger
    theirs = convert(directory, tmp_path / "hf", "huggingface")
    values = json.loads((theirs / "config.json").read_text("utf-8"))
    assert values["architectures"] == ["BertForTokenClassification"]
    labels = saved_model.load(directory).labels
    assert values["id2label"] == {str(n): label for n, label in enumerate(labels)}
    back = convert(theirs, tmp_path / "back", "bert_jax")
    assert saved_model.load(back).labels == labels
    (before,), (after,) = (ask(where, "店员春天") for where in (directory, back))
    assert before["entities"]
    for one, other in zip(before["entities"], after["entities"], strict=True):
        assert one.pop("probability") == pytest.approx(other.pop("probability"), rel=1e-5)
        assert one == other


def test_a_tag_outside_the_scheme_leaves_nothing(data, tmp_path):
    rows = sentences(60)
    for row in rows[30:]:
        row[1] = (row[1][0], "PER")
    path = write(tmp_path / "train.conll", rows)
    with pytest.raises(InputError, match=r"train\.conll:\d+: tag 'PER' of '.' is outside the sch"):
        finetune.run(config_of(path, data), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    config = config_of(path, data)
    config.data.pair_field = "b"
    with pytest.raises(InputError, match=r"pair_field=b is for pairs, and config\.task=tag"):
        finetune.run(config, tmp_path / "out")


def test_a_sentence_piece_of_nothing_is_no_piece(tmp_path):
    """SentencePiece puts a ▁ of its own before a character that it knows only within words."""
    from bert_jax.config import TokenizerConfig
    from bert_jax.tasks.tag import TagWords
    from bert_jax.text import tokenizer as tokenizers
    from bert_jax.text.conll import TaggedText

    trained = tokenizers.train(
        TokenizerConfig(
            path="", kind="unigram", vocab_size=24, lowercase=True, chinese_words=False,
            max_word_characters=100, train_megabytes=1,
        ),
        ["甲乙丙丁", "乙丙丁甲", "丙丁甲乙"] * 4,
    )  # fmt: skip
    row = TaggedText("甲 丁", ("甲", "丁"), ("A", "B"), "first", "here")
    (example,) = TagWords(("A", "B"), trained, LENGTH, 0).encode([row]).examples
    assert len(trained.pieces) > len(SPECIAL_PIECES)
    assert example.words.tolist() == [-1, 0, 1, -1]
