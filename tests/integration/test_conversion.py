"""Models of others as workdirs here and back: same answers, same bits, and nothing half-written."""

import json
import pickle
import re
import shutil
import sys

import foreign
import numpy as np
import pytest
from integration import corpus
from safetensors.numpy import load_file, save_file

from bert_jax import workdir as wd
from bert_jax.errors import InputError
from bert_jax.interchange.sentence_vectors import SentenceVectors
from bert_jax.tasks import conversion, evaluate, finetune, pretrain, saved_model, tuning
from bert_jax.tasks.conversion import Options
from bert_jax.tasks.predict import Predictor
from bert_jax.tasks.task import Text
from bert_jax.training.logging import read_metrics
from bert_jax.training.record import by_path

TEXT = "ab c[MASK]好 a[MASK]"
HEADS = {
    "BertModel": ("pooler",),
    "BertForPreTraining": ("pooler", "mlm", "next"),
    "BertForMaskedLM": ("mlm",),
    "BertForSequenceClassification": ("pooler", "classifier"),
    "BertForTokenClassification": ("classifier",),
    "BertForQuestionAnswering": ("span",),
}
TOLERANCE = dict(rtol=1e-5, atol=1e-6)


class Stop(Exception):
    """Ends a run where the test has seen enough."""


def write(directory, kind, arrays=None, **changes):
    """A directory as transformers writes it."""
    foreign.write_description(directory, kind, **changes)
    save_file(arrays or foreign.tensors(*HEADS[kind]), directory / "model.safetensors")
    return directory


def convert(source, to, **changes):
    """Converts and returns where to."""
    options = dict(
        format="bert_jax",
        model_config="",
        tokenizer="",
        allow_missing="",
        allow_unknown="",
        add_words="",
        positions=0,
    )
    conversion.run(Options(source=str(source), to=str(to), **options | changes))
    return to


def answers(workdir, text):
    (found,) = Predictor(saved_model.load(workdir))([Text(text, "", "here")])
    return found


def params_of(workdir):
    found = saved_model.load(workdir)
    return {k: np.asarray(v) for k, v in by_path(found.params(found.param_shapes)).items()}


def assert_same_params(one, other):
    one, other = params_of(one), params_of(other)
    assert one.keys() == other.keys()
    for path, array in one.items():
        assert array.tobytes() == other[path].tobytes(), path


def ids_of(text):
    """Of the test's vocabulary, with [CLS] and [SEP]."""
    parts = text.replace("[MASK]", " [MASK] ").replace("好", " 好 ").split()
    return np.array([foreign.PIECES.index(part) for part in ("[CLS]", *parts, "[SEP]")])


@pytest.mark.parametrize(("gelu", "form"), [("gelu", "erf"), ("gelu_pytorch_tanh", "tanh")])
@pytest.mark.parametrize("kind", ["BertForPreTraining", "BertForMaskedLM"])
def test_masked_tokens_are_those_of_the_original(kind, gelu, form, tmp_path):
    arrays = foreign.tensors(*HEADS[kind])
    workdir = convert(write(tmp_path / "hf", kind, arrays, hidden_act=gelu), tmp_path / "out")
    ids = ids_of(TEXT)
    logits = foreign.mlm_logits(arrays, foreign.hidden(arrays, ids, form=form), form)
    wanted = np.exp(logits[:, : len(foreign.PIECES)])
    wanted /= wanted.sum(axis=1, keepdims=True)
    slots = np.flatnonzero(ids == foreign.PIECES.index("[MASK]"))
    found = answers(workdir, TEXT)["masks"]
    assert [one["mask"] for one in found] == [0] * 5 + [1] * 5
    for one in found:
        probability = wanted[slots[one["mask"]], foreign.PIECES.index(one["token"])]
        np.testing.assert_allclose(one["probability"], probability, **TOLERANCE)
    best = wanted[slots[0]].argsort()[::-1][:5]
    assert [one["token"] for one in found[:5]] == [foreign.PIECES[i] for i in best]


def test_labels_are_those_of_the_original(tmp_path):
    kind = "BertForSequenceClassification"
    arrays = foreign.tensors(*HEADS[kind])
    workdir = convert(write(tmp_path / "hf", kind, arrays), tmp_path / "out")
    x = foreign.hidden(arrays, ids_of("ab c 好"))
    wanted = np.exp(foreign.class_logits(arrays, x, "classifier"))
    found = answers(workdir, "ab c 好")
    assert list(found["probabilities"]) == list(foreign.LABELS)
    np.testing.assert_allclose(
        list(found["probabilities"].values()), wanted / wanted.sum(), **TOLERANCE
    )
    assert found["label"] == foreign.LABELS[wanted.argmax()]


@pytest.mark.parametrize(
    ("problem", "task", "labels"),
    [
        ("multi_label_classification", "multilabel", foreign.LABELS),
        ("regression", "regress", ("stars",)),
        ("", "regress", ("stars",)),  # of one output transformers takes it for granted
    ],
)
def test_other_problems_come_in_and_go_out(problem, task, labels, tmp_path):
    kind = "BertForSequenceClassification"
    arrays = foreign.tensors(*HEADS[kind], classes=len(labels))
    named = dict(problem_type=problem, id2label={str(n): one for n, one in enumerate(labels)})
    workdir = convert(write(tmp_path / "hf", kind, arrays, **named), tmp_path / "out")
    assert saved_model.load(workdir).task == task
    x = foreign.hidden(arrays, ids_of("ab c 好"))
    wanted = np.ravel(foreign.class_logits(arrays, x, "classifier"))
    found = answers(workdir, "ab c 好")
    if task == "regress":
        assert found["value"] == pytest.approx(wanted[0], rel=1e-5)
    else:
        wanted = 1 / (1 + np.exp(-wanted))
        np.testing.assert_allclose(list(found["probabilities"].values()), wanted, **TOLERANCE)
        assert found["labels"] == [n for n, p in zip(labels, wanted, strict=True) if p >= 0.5]
    back = convert(workdir, tmp_path / "back", format="huggingface")
    values = json.loads((back / "config.json").read_text("utf-8"))
    assert values["problem_type"] == (problem or "regression")
    assert values["id2label"] == named["id2label"]


def test_tags_are_those_of_the_original(tmp_path):
    kind = "BertForTokenClassification"
    arrays = foreign.tensors(*HEADS[kind])
    workdir = convert(write(tmp_path / "hf", kind, arrays), tmp_path / "out")
    wanted = np.exp(foreign.tag_logits(arrays, foreign.hidden(arrays, ids_of("ab c 好"))))[1:-1]
    wanted /= wanted.sum(axis=1, keepdims=True)
    found = answers(workdir, "ab c 好")["entities"]  # plain tags: every word
    assert [(one["text"], one["type"]) for one in found] == [
        (word, foreign.LABELS[row.argmax()])
        for word, row in zip(("ab", "c", "好"), wanted, strict=True)
    ]
    probabilities = [one["probability"] for one in found]
    np.testing.assert_allclose(probabilities, wanted.max(axis=1), **TOLERANCE)


def test_a_model_that_chooses_comes_in_and_goes_out(tmp_path):
    kind = "BertForMultipleChoice"
    arrays = foreign.tensors("pooler", "classifier", classes=1)
    segments = arrays["bert.embeddings.token_type_embeddings.weight"]
    segments[1] = segments[0]  # `foreign` knows of one
    workdir = convert(write(tmp_path / "hf", kind, arrays), tmp_path / "out")
    assert saved_model.load(workdir).task == "choice"
    choices = ("a", "b d", "中")
    texts = [f"ab c [SEP] 好 {choice}" for choice in choices]
    vectors = [foreign.hidden(arrays, ids_of(text)) for text in texts]
    logits = [foreign.class_logits(arrays, x, "classifier")[0] for x in vectors]
    wanted = np.exp(logits) / np.exp(logits).sum()
    (found,) = Predictor(saved_model.load(workdir))([Text("ab c", "好", "here", choices)])
    np.testing.assert_allclose(found["probabilities"], wanted, **TOLERANCE)
    back = convert(workdir, tmp_path / "back", format="huggingface")
    values = json.loads((back / "config.json").read_text("utf-8"))
    assert values["architectures"] == [kind]
    assert not {"problem_type", "id2label"} & values.keys()
    tensors = load_file(back / "model.safetensors")
    assert {name: array.tobytes() for name, array in tensors.items()} == {
        name: array.tobytes() for name, array in arrays.items()
    }


def cut(arrays, layers):
    """The same model with the lowest layers alone."""
    return {
        name: array
        for name, array in arrays.items()
        if not any(f"layer.{n}." in name for n in range(layers, 5))
    }


@pytest.mark.parametrize(
    ("pooling", "layers"), [("cls", 2), ("mean", 2), ("last4", 2), ("last4", 5)]
)
def test_vectors_are_made_of_the_tokens_of_the_original(pooling, layers, tmp_path):
    arrays = foreign.tensors("pooler", layers=layers)
    theirs = write(tmp_path / "hf", "BertModel", arrays, num_hidden_layers=layers)
    found = saved_model.load(convert(theirs, tmp_path / "out"))
    texts = ["ab c 好", "a", "b c d e f a b"]
    wanted = []
    for text in texts:
        states = [foreign.hidden(cut(arrays, n), ids_of(text)) for n in range(layers, 0, -1)]
        means = np.mean([state.mean(0) for state in states[:4]], axis=0)
        last = states[0]
        wanted.append({"cls": last[0], "mean": last.mean(0), "last4": means}[pooling])
    rows = Predictor(found, embed=pooling)([Text(text, "", "here") for text in texts])
    vectors = np.array([row["embedding"] for row in rows])
    np.testing.assert_allclose(vectors, wanted, **TOLERANCE)
    (row,) = Predictor(found, embed=pooling, normalise=True)([Text(texts[0], "", "here")])
    unit = wanted[0] / np.linalg.norm(wanted[0])
    np.testing.assert_allclose(row["embedding"], unit, **TOLERANCE)
    with pytest.raises(InputError, match="--embed=max is not known: cls, mean, last4"):
        Predictor(found, embed="max")


def write_vectors(directory, pooling, *, normalise, length):
    """What sentence-transformers puts beside the weights."""
    parts = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")]
    modules = [
        {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for n, (kind, path) in enumerate(parts[: 2 + normalise])
    ]
    (directory / "1_Pooling").mkdir()
    (directory / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (directory / "modules.json").write_text(json.dumps(modules))
    (directory / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": length}))


def read_vectors(directory):
    """Types and folders, pooling, the most tokens."""
    modules, pooling, settings = (
        json.loads((directory / name).read_text("utf-8"))
        for name in ("modules.json", "1_Pooling/config.json", "sentence_bert_config.json")
    )
    parts = [(part["type"].split(".")[-1], part["path"]) for part in modules]
    assert pooling.pop("word_embedding_dimension") == foreign.SIZES["width"]
    return parts, {name for name, is_on in pooling.items() if is_on}, settings["max_seq_length"]


@pytest.mark.parametrize(
    ("said", "pooling", "normalise"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls", True),
        ({"pooling_mode": "cls", "embedding_dimension": 12}, "cls", False),  # as of version 5
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, "mean", True),
    ],
)
def test_how_a_text_becomes_a_vector_is_kept(said, pooling, normalise, tmp_path, capsys):
    theirs = write(tmp_path / "hf", "BertModel")
    write_vectors(theirs, said, normalise=normalise, length=10)
    here = convert(theirs, tmp_path / "here")
    flags = f"--embed={pooling}" + " --normalise" * normalise
    assert f"\nvectors     {flags}, 10 tokens at most\n" in capsys.readouterr().out
    found = saved_model.load(here)
    assert (found.run["length"], found.vectors) == (10, SentenceVectors(pooling, normalise))
    Predictor(found, embed=pooling, normalise=normalise)
    assert capsys.readouterr().err == ""
    Predictor(found, embed="last4", normalise=normalise)
    warning = f"here was trained for the vectors of {flags}, and these are those of --embed=last4"
    assert warning in capsys.readouterr().err
    parts = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")]
    switch = {"cls": "pooling_mode_cls_token", "mean": "pooling_mode_mean_tokens"}[pooling]
    back = convert(here, tmp_path / "back", format="huggingface")
    assert read_vectors(back) == (parts[: 2 + normalise], {switch}, 10)


@pytest.mark.parametrize(
    "kind",
    [
        "BertModel",
        "BertForPreTraining",
        "BertForSequenceClassification",
        "BertForTokenClassification",
        "BertForQuestionAnswering",
    ],
)
def test_out_of_hugging_face_and_back_to_the_bit(kind, tmp_path):
    arrays = foreign.tensors(*HEADS[kind], prefix="" if kind == "BertModel" else "bert.")
    there = write(tmp_path / "hf", kind, arrays)
    here = convert(there, tmp_path / "here")
    back = convert(here, tmp_path / "back", format="huggingface")
    found = load_file(back / "model.safetensors")
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        assert found[name].tobytes() == array.tobytes(), name
    values = json.loads((back / "config.json").read_text("utf-8"))
    assert values["architectures"] == [kind]
    if "classifier" in HEADS[kind]:
        assert values["id2label"] == {str(n): label for n, label in enumerate(foreign.LABELS)}
    assert (back / "vocab.txt").read_bytes() == (there / "vocab.txt").read_bytes()
    assert_same_params(here, convert(back, tmp_path / "again"))


@pytest.fixture(scope="module")
def converted(pretrained, tmp_path_factory):
    """A pretraining of here that went through Hugging Face's files."""
    root = tmp_path_factory.mktemp("converted")
    theirs = convert(pretrained, root / "hf", format="huggingface")
    return convert(theirs, root / "here")


def test_a_pretraining_goes_out_and_comes_back(pretrained, converted):
    assert_same_params(pretrained, converted)
    before, after = saved_model.load(pretrained), saved_model.load(converted)
    assert after.tokenizer.fingerprint == before.tokenizer.fingerprint
    assert (after.is_converted, before.is_converted) == (True, False)
    own = {"dropout", "attention_dropout", "compute_dtype"}
    assert {k: v for k, v in vars(after.model).items() if k not in own} == {
        k: v for k, v in vars(before.model).items() if k not in own
    }


def test_a_converted_pretraining_is_evaluated_as_the_run_was(pretrained, converted, data, tmp_path):
    config = corpus.pretrain_config(data)
    own = evaluate.run(config, shutil.copytree(pretrained, tmp_path / "run"))
    found = evaluate.run(config, converted)
    assert found.pop("step") == 0
    for name, value in found.items():
        assert value == pytest.approx(own[name], rel=1e-6), name


def test_a_converted_classifier_is_evaluated_on_named_rows(tmp_path):
    kind = "BertForSequenceClassification"
    workdir = convert(write(tmp_path / "hf", kind), tmp_path / "out")
    rows = [("ab c", "bad"), ("好 a", "good"), ("b", "so so")]
    path = corpus.write_reviews(tmp_path / "test.csv", rows)
    config = corpus.finetune_config(tmp_path / "none.csv", "")
    with pytest.raises(InputError, match=r"config\.data\.test is empty, and .* was converted"):
        evaluate.run(config, workdir)
    config.data.test = str(path)
    found = evaluate.run(config, workdir)
    right = [answers(workdir, text)["label"] == label for text, label in rows]
    assert (found["rows"], found["accuracy"]) == (3, pytest.approx(sum(right) / 3))
    assert found["labels"] == list(foreign.LABELS)
    config.data.positive_label = "well"
    with pytest.raises(InputError, match=r"label='well' is none .*choose one of .*good"):
        evaluate.run(config, workdir)
    config.data.positive_label = "good"
    assert "f1" in evaluate.run(config, workdir)
    config.data.positive_label = ""
    # Windows of the config's length are longer than the model, and what they share too.
    corpus.write_reviews(path, [("a b " * 40, "good")])
    positions = foreign.SIZES["positions"]
    config.update(max_length=2 * positions, window_overlap=positions)
    assert evaluate.run(config, workdir)["rows"] == 1


def first_params(module, run, config, workdir, monkeypatch):
    """The parameters that the training loop is handed."""
    found = {}

    def train(state, *_, **__):
        found.update({k: np.asarray(v) for k, v in by_path(state.params).items()})
        raise Stop

    monkeypatch.setattr(module, "train", train)
    with pytest.raises(Stop):
        run(config, workdir)
    return found


@pytest.mark.parametrize("kind", ["BertModel", "BertForMaskedLM"])
def test_fine_tuning_begins_from_a_converted_model(kind, tmp_path, monkeypatch, capsys):
    workdir = convert(write(tmp_path / "hf", kind), tmp_path / "here")
    rows = [(f"{a} {b}", label) for a in "abcdef" for b in "abcdefgh" for label in ("x", "y")][::3]
    path = corpus.write_reviews(tmp_path / "train.csv", rows)
    config = corpus.finetune_config(path, workdir)
    config.max_length = 16
    start = first_params(tuning, finetune.run, config, tmp_path / "out", monkeypatch)
    for name, array in params_of(workdir).items():
        if name.startswith(("encoder/", "pooler/")):
            np.testing.assert_array_equal(start[name], array, err_msg=name)
    is_fresh = kind == "BertForMaskedLM"
    (fresh,) = re.findall(r"; fresh: ([^;\n]*)", capsys.readouterr().out)
    assert set(fresh.split(", ")) == {"classifier"} | ({"pooler"} if is_fresh else set())
    assert (start["pooler/dense/bias"] == 0).all() == is_fresh


def test_pretraining_goes_on_from_another_workdir(converted, data, tmp_path, monkeypatch):
    config = corpus.pretrain_config(data)
    config.init_from = str(converted)
    config.model.width = 64  # the sizes are the model's
    start = first_params(pretrain, pretrain.run, config, tmp_path / "out", monkeypatch)
    for name, array in params_of(converted).items():
        np.testing.assert_array_equal(start[name], array, err_msg=name)
    written = wd.read_config(tmp_path / "out")
    assert (written["init_from"], written["model"]["width"]) == (str(converted), 32)


def test_heads_that_a_model_lacks_are_fresh_and_it_says_so(
    converted, data, tmp_path, monkeypatch, capsys
):
    theirs = convert(converted, tmp_path / "hf", format="huggingface")
    tensors = load_file(theirs / "model.safetensors")
    kept = {name: array for name, array in tensors.items() if not name.startswith("cls.")}
    save_file(kept, theirs / "model.safetensors")
    values = json.loads((theirs / "config.json").read_text("utf-8"))
    (theirs / "config.json").write_text(json.dumps(values | {"architectures": ["BertModel"]}))
    encoder = convert(theirs, tmp_path / "here")
    config = corpus.pretrain_config(data)
    config.init_from = str(encoder)
    start = first_params(pretrain, pretrain.run, config, tmp_path / "out", monkeypatch)
    wanted = params_of(converted)
    assert (start["pooler/dense/kernel"] == wanted["pooler/dense/kernel"]).all()
    assert (start["mlm/dense/kernel"] != wanted["mlm/dense/kernel"]).any()
    said = capsys.readouterr()
    assert "; fresh: head for masked tokens, head for next" in said.out + said.err
    with pytest.raises(InputError, match="has no head for masked tokens: it was converted"):
        answers(encoder, "[MASK]")
    with pytest.raises(InputError, match="has no head for masked tokens and no head for next"):
        evaluate.run(config, encoder)


def test_a_pretraining_that_began_from_another_goes_further(pretrained, converted, data, tmp_path):
    config = corpus.pretrain_config(data)
    config.init_from = str(converted)
    reached = pretrain.run(config, tmp_path / "out")
    before = read_metrics(pretrained)[-1]
    assert (before["step"], before["split"]) == (reached["step"], "heldout")
    assert reached["mlm_loss"] < before["mlm_loss"]
    assert pretrain.run(config, tmp_path / "out") == reached  # as any finished run


def test_rows_of_another_vocabulary_are_refused(data, tmp_path):
    workdir = convert(write(tmp_path / "hf", "BertForPreTraining"), tmp_path / "here", positions=32)
    config = corpus.pretrain_config(data)
    config.init_from = str(workdir)
    message = r"another vocabulary than config\.init_from=.*here has: prepare it with --config\.tok"
    with pytest.raises(InputError, match=message):
        pretrain.run(config, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_converted_model_is_no_run_to_go_on_with(converted, data):
    with pytest.raises(InputError, match=r"holds a converted model.*--config\.init_from"):
        pretrain.run(corpus.pretrain_config(data), converted)


def test_words_and_positions_are_added_on_the_way(tmp_path, capsys):
    kind = "BertForPreTraining"
    words = tmp_path / "words.txt"
    words.write_text("aba\nab\nabab\ncab\n")
    here = convert(
        write(tmp_path / "hf", kind), tmp_path / "here", add_words=str(words), positions=20
    )
    found = saved_model.load(here)
    assert found.tokenizer.pieces[22:] == ("aba", "abab", "cab")
    assert (found.model.vocab_size, found.model.positions) == (25, 20)
    assert found.run["length"] == 16  # the new positions were never trained
    params, arrays = params_of(here), foreign.tensors(*HEADS[kind])
    table = arrays["bert.embeddings.word_embeddings.weight"]
    pieces = [foreign.PIECES.index(piece) for piece in ("ab", "##a")]
    np.testing.assert_allclose(
        params["encoder/embeddings/token"][22], table[pieces].mean(0), rtol=1e-6
    )
    np.testing.assert_allclose(
        params["mlm/bias"][22], arrays["cls.predictions.bias"][pieces].mean(), rtol=1e-6
    )
    printed = capsys.readouterr().out
    assert "3 words added, 1 were there already" in printed
    assert "4 rows of encoder/embeddings/position: the first 16 again" in printed
    # What was in the file, without what was added: the table's rows and the positions'.
    loaded = sum(
        a.size for name, a in arrays.items() if ".embeddings." in name or ".layer." in name
    )
    assert f"encoder            37{loaded - 24:>15,}  loaded" in printed  # two rows went to words
    back = convert(here, tmp_path / "back", format="huggingface")
    values = json.loads((back / "config.json").read_text("utf-8"))
    assert (values["vocab_size"], values["max_position_embeddings"]) == (25, 20)


def test_answers_are_those_of_the_original(tmp_path):
    kind = "BertForQuestionAnswering"
    arrays = foreign.tensors("pooler", *HEADS[kind])  # old files have a pooler too
    workdir = convert(write(tmp_path / "hf", kind, arrays), tmp_path / "out")
    assert {path.split("/")[0] for path in params_of(workdir)} == {"encoder", "span"}
    context = ["ab", "c", "好", "d"]
    ids = ids_of("a b [SEP] " + " ".join(context))
    x = foreign.hidden(arrays, ids, segments=np.array([0] * 4 + [1] * 5))
    logits = x @ arrays["qa_outputs.weight"].T + arrays["qa_outputs.bias"]
    wanted = {"": logits[0].sum()}
    for first in range(4):
        for last in range(first, 4):
            text = " ".join(context[first : last + 1])
            wanted[text] = logits[4 + first, 0] + logits[4 + last, 1]
    total = sum(np.exp(list(wanted.values())))
    (found,) = Predictor(saved_model.load(workdir))([Text(" ".join(context), "a b", "here")])
    assert found["answer"] == max(wanted, key=wanted.get)
    best = sorted(wanted, key=wanted.get, reverse=True)[:3]
    assert [one["answer"] for one in found["best"]] == best
    np.testing.assert_allclose(
        [one["probability"] for one in found["best"]],
        [np.exp(wanted[text]) / total for text in best],
        **TOLERANCE,
    )


@pytest.mark.parametrize("kind", ["BertForQuestionAnswering", "BertForTokenClassification"])
def test_what_the_task_has_not_is_left_out_here_and_kept_there(kind, tmp_path, capsys):
    arrays = foreign.tensors("pooler", *HEADS[kind])
    theirs = write(tmp_path / "hf", kind, arrays)
    here = convert(theirs, tmp_path / "here")
    assert "pooler" not in {path.split("/")[0] for path in params_of(here)}
    assert "of the pooler, which this model has no task for here" in capsys.readouterr().out
    back = convert(theirs, tmp_path / "back", format="huggingface")
    found = load_file(back / "model.safetensors")
    assert all((found[name] == array).all() for name, array in arrays.items())
    assert json.loads((back / "config.json").read_text("utf-8"))["architectures"] == [kind]


def test_a_torchscript_archive_with_its_config_and_vocabulary_elsewhere(tmp_path, capsys):
    other = foreign.write_description(tmp_path / "other")
    arrays = foreign.tensors("pooler", prefix="model.")
    arrays["rnn.weight"] = np.ones(3, np.float32)
    path = foreign.write_torchscript(tmp_path / "model.pt", arrays)
    here = convert(
        *(path, tmp_path / "here"),
        model_config=str(other / "config.json"),
        tokenizer=str(other / "vocab.txt"),
        allow_unknown="^rnn",
    )
    np.testing.assert_array_equal(
        params_of(here)["pooler/dense/kernel"], arrays["model.pooler.dense.weight"].T
    )
    assert "model.pt: TorchScript" in capsys.readouterr().out


# Each case: what is wrong with a directory.


class Evil:
    """What ends the test run when it is unpickled."""

    def __reduce__(self):
        return (sys.exit, ("the pickle has run",))


def runs_code(folder):
    foreign.write_description(folder)
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"a": Evil()}))


def truncated(folder):
    path = write(folder, "BertModel") / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])


def another_shape(folder):
    write(folder, "BertModel", intermediate_size=21)


def tensor_missing(folder):
    arrays = foreign.tensors("pooler")
    del arrays["bert.encoder.layer.0.output.dense.bias"]
    write(folder, "BertModel", arrays)


def tensor_unknown(folder):
    write(folder, "BertModel", foreign.tensors() | {"lstm.weight": np.zeros(1, np.float32)})


def no_config(folder):
    (write(folder, "BertModel") / "config.json").unlink()


def no_vocabulary(folder):
    (write(folder, "BertModel") / "vocab.txt").unlink()


def empty(folder):
    folder.mkdir()


def too_many_pieces(folder):
    pieces = (*foreign.PIECES, "x", "y", "z")
    (write(folder, "BertModel") / "vocab.txt").write_text("\n".join(pieces), "utf-8")


def other_model(folder):
    write(folder, "BertModel", model_type="albert")


def several_values(folder):
    write(folder, "BertForSequenceClassification", problem_type="regression")


def pooled_by_max(folder):
    write_vectors(write(folder, "BertModel"), {"pooling_mode": "max"}, normalise=True, length=8)


def two_poolings(folder):
    both = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}
    write_vectors(write(folder, "BertModel"), both, normalise=True, length=8)


def through_a_dense(folder):
    write_vectors(write(folder, "BertModel"), {}, normalise=True, length=8)
    path = folder / "modules.json"
    path.write_text(path.read_text().replace("Normalize", "Dense"))


def small_letters_for_a_cased_tokenizer(folder):
    write_vectors(write(folder, "BertModel"), {}, normalise=True, length=8)
    said = {"max_seq_length": 8, "do_lower_case": True}
    (folder / "sentence_bert_config.json").write_text(json.dumps(said))
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(settings | {"do_lower_case": False}))


def length_in_words(folder):
    write_vectors(write(folder, "BertModel"), {}, normalise=True, length="long")


def modules_without_a_type(folder):
    (write(folder, "BertModel") / "modules.json").write_text('[{"path": ""}]')


BAD = {
    small_letters_for_a_cased_tokenizer: r"sentence_bert_config\.json makes texts small and the to",
    runs_code: r"pytorch_model\.bin is a pickle that wants sys\.exit",
    truncated: r"model\.safetensors is truncated or damaged",
    another_shape: r"intermediate\.dense\.weight is 20 x 12 and the model of .* has 21 x 12",
    tensor_missing: r"has no bert\.encoder\.layer\.0\.output\.dense\.bias, which",
    tensor_unknown: r"holds lstm\.weight, which BERT has not: .*--allow_unknown",
    no_config: r"holds no config\.json",
    no_vocabulary: r"is no tokenizer",
    empty: r"holds no weights",
    too_many_pieces: r"has 25 pieces and the table of the weights 24 rows",
    other_model: r"model_type 'albert' is not supported",
    several_values: r"is a classifier for regression with 3 outputs",
    pooled_by_max: r"1_Pooling/config\.json makes vectors by max, and there are only cls or mean",
    two_poolings: r"makes vectors by cls and mean, and .*: move modules\.json away to convert",
    through_a_dense: r"modules\.json makes vectors by Transformer, Pooling, Dense, and only",
    length_in_words: r"sentence_bert_config\.json: max_seq_length must be a number from 8 on, not",
    modules_without_a_type: r"modules\.json is truncated or damaged",
}


@pytest.mark.parametrize("case", BAD, ids=lambda case: case.__name__)
def test_bad_input_is_one_sentence_and_leaves_nothing(case, tmp_path):
    case(tmp_path / "from")
    with pytest.raises(InputError, match=BAD[case]) as raised:
        convert(tmp_path / "from", tmp_path / "new" / "to")
    assert "\n" not in str(raised.value)
    assert str(raised.value).endswith(".")
    assert not (tmp_path / "new").exists()


def test_a_directory_that_holds_something_is_left_alone(tmp_path):
    source = write(tmp_path / "from", "BertModel")
    (tmp_path / "to").mkdir()
    convert(source, tmp_path / "to")  # empty
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "to").rglob("*")}
    with pytest.raises(InputError, match=r"--to=.*/to already holds something"):
        convert(source, tmp_path / "to")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "to").rglob("*")} == before


@pytest.mark.parametrize("form", conversion.FORMATS)
def test_a_task_of_ones_own_is_not_made_another(form, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(conversion.PROBLEMS, "", "stars")
        patch.setitem(conversion.TASKS, "stars", conversion.TASKS["classify"])
        own = convert(write(tmp_path / "hf", "BertForSequenceClassification"), tmp_path / "own")
    assert saved_model.load(own).task == "stars"
    with pytest.raises(InputError, match=r"own holds a model of config\.task='stars', a task of o"):
        convert(own, tmp_path / "to", format=form)
    assert not (tmp_path / "to").exists()


def test_an_unknown_format_is_refused(tmp_path):
    with pytest.raises(InputError, match="--format=onnx is not known: bert_jax or huggingface"):
        convert(tmp_path, tmp_path / "to", format="onnx")


@pytest.mark.parametrize("name", ["allow_missing", "allow_unknown"])
def test_a_regex_that_is_none_is_refused(name, tmp_path):
    with pytest.raises(InputError, match=rf"--{name}=\( is no regular expression: missing \)"):
        convert(tmp_path, tmp_path / "to", **{name: "("})


def test_what_is_for_weights_of_others_is_refused_for_a_workdir(pretrained, tmp_path):
    with pytest.raises(InputError, match=r"--tokenizer is for weights of others, and .* workdir"):
        convert(pretrained, tmp_path / "to", tokenizer="vocab.txt")


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    source = write(tmp_path / "from", "BertModel")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(wd, "write_json", full)
    with pytest.raises(InputError, match=r"--to=.* cannot be written \(.*No space left"):
        convert(source, tmp_path / "to")
    assert {path.name for path in tmp_path.iterdir()} == {"from"}
