"""Names, layouts and the account: which tensor becomes which parameter, and what of the rest."""

import dataclasses
import json
import re

import foreign
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bert_jax.arrays import Tokens
from bert_jax.errors import InputError
from bert_jax.interchange import architecture, names
from bert_jax.interchange.account import table
from bert_jax.interchange.matching import Allowed, fresh, take
from bert_jax.interchange.stored import in_memory
from bert_jax.model.bert import ClassifyModel, PretrainModel
from bert_jax.training.record import by_path

NOTHING = Allowed("", "")
KINDS = {
    "BertModel": ("pooler",),
    "BertForPreTraining": ("pooler", "mlm", "next"),
    "BertForMaskedLM": ("mlm",),
    "BertForNextSentencePrediction": ("pooler", "next"),
    "BertForSequenceClassification": ("pooler", "classifier"),
    "BertForTokenClassification": ("classifier",),
    "BertForQuestionAnswering": ("span",),
}


def described(tmp_path, kind="BertModel", **changes):
    foreign.write_description(tmp_path, kind, **changes)
    return architecture.read(tmp_path / "config.json", is_original=False)


def taken(tmp_path, arrays, kind="BertModel", allowed=NOTHING, **changes):
    tensors = {name: in_memory(name, array) for name, array in arrays.items()}
    return take(tensors, described(tmp_path, kind, **changes), allowed, tmp_path / "weights")


def assert_refused(message, tmp_path, arrays, *rest, **changes):
    with pytest.raises(InputError, match=message):
        taken(tmp_path, arrays, *rest, **changes)


@pytest.mark.parametrize("kind", ["BertForPreTraining", "BertForSequenceClassification"])
def test_the_table_has_every_parameter_of_the_models(kind, tmp_path):
    params, _ = taken(tmp_path, foreign.tensors(*KINDS[kind]), kind)
    model = described(tmp_path).model
    zeros = jnp.zeros((1, 8), jnp.int32)
    tokens = Tokens(*[zeros] * 4)
    if kind == "BertForPreTraining":
        module, args = PretrainModel(model, None), (tokens, zeros, zeros)
    else:
        module, args = ClassifyModel(model, len(foreign.LABELS), None), (tokens,)
    shapes = jax.eval_shape(
        lambda key: module.init(key, *args, deterministic=True), jax.random.key(0)
    )["params"]
    wanted = {path: (leaf.shape, leaf.dtype) for path, leaf in by_path(shapes).items()}
    assert {path: (array.shape, array.dtype) for path, array in params.items()} == wanted


@pytest.mark.parametrize("kind", KINDS)
def test_there_and_back_to_the_bit(kind, tmp_path):
    arrays = foreign.tensors(*KINDS[kind])
    params, account = taken(tmp_path, arrays, kind)
    said = described(tmp_path, kind)
    modules = tuple({path.split("/")[0] for path in params})
    back = {}
    for row in names.rows(said.model.layers, modules):
        shape = names.size_of(row.their_shape, said.model, said.classes)
        back[row.theirs] = names.to_theirs(params[row.ours], row, shape)
    assert back.keys() == arrays.keys()
    for name, array in arrays.items():
        assert back[name].tobytes() == array.tobytes(), name
    assert set(account.loaded.values()) == set(arrays)
    assert not account.left_out
    assert not account.made
    if kind == "BertForTokenClassification":
        assert "tagger" in modules
        assert "classifier" not in modules


@pytest.mark.parametrize("prefix", ["", "bert.", "model.", "0.auto_model.", "module.bert."])
def test_what_stands_before_the_names(prefix, tmp_path):
    outer = prefix.removesuffix("bert.")
    renamed = {
        outer + name if name.startswith("cls.") else name: array
        for name, array in foreign.tensors("pooler", "mlm", prefix=prefix).items()
    }
    params, _ = taken(tmp_path, renamed)
    plain, _ = taken(tmp_path, foreign.tensors("pooler", "mlm"))
    assert params.keys() == plain.keys()
    assert all((params[path] == plain[path]).all() for path in plain)


def test_a_head_outside_of_the_model_is_not_its_own(tmp_path):
    arrays = foreign.tensors("pooler", "classifier", prefix="model.", classes=1)
    assert_refused(
        r"weights holds classifier\.weight and 1 more, which BERT has not", tmp_path, arrays
    )
    params, account = taken(tmp_path, arrays, "BertModel", Allowed("", "^classifier"))
    assert not [path for path in params if path.startswith("classifier")]
    assert set(account.left_out) == {"classifier.weight", "classifier.bias"}


def test_old_names_of_a_norm(tmp_path):
    arrays = {
        name.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta"): array
        for name, array in foreign.tensors("mlm").items()
    }
    params, account = taken(tmp_path, arrays)
    assert account.loaded["mlm/norm/scale"] == "cls.predictions.transform.LayerNorm.gamma"
    np.testing.assert_array_equal(
        params["encoder/embeddings/norm/bias"], arrays["bert.embeddings.LayerNorm.beta"]
    )


def test_two_tensors_of_one_name_are_refused(tmp_path):
    arrays = foreign.tensors()
    arrays["bert.embeddings.LayerNorm.gamma"] = arrays["bert.embeddings.LayerNorm.weight"]
    assert_refused(r"both bert\.embeddings\.LayerNorm\.weight and .*gamma", tmp_path, arrays)


def test_what_is_known_without_is_left_out(tmp_path):
    arrays = foreign.tensors("mlm")
    arrays["bert.embeddings.position_ids"] = np.arange(16)[None]
    arrays["cls.predictions.decoder.weight"] = arrays["bert.embeddings.word_embeddings.weight"]
    arrays["cls.predictions.decoder.bias"] = arrays["cls.predictions.bias"]
    _, account = taken(tmp_path, arrays)
    assert account.left_out == {
        "bert.embeddings.position_ids": "a buffer, known without",
        "cls.predictions.decoder.weight": "the same as bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "the same as cls.predictions.bias",
    }


def test_the_moments_of_an_optimizer_are_left_out(tmp_path):
    arrays = foreign.tensors()
    tensors = {name: in_memory(name, array) for name, array in arrays.items()}
    for name in ("bert/embeddings/word_embeddings/adam_m", "global_step"):
        tensors[name.replace("/", ".")] = in_memory(name, np.zeros(1))
    _, account = take(tensors, described(tmp_path), NOTHING, tmp_path)
    assert set(account.left_out.values()) == {"of the optimizer"}
    assert len(account.left_out) == 2


def test_an_untied_decoder_is_refused(tmp_path):
    arrays = foreign.tensors("mlm")
    arrays["cls.predictions.decoder.weight"] = arrays["bert.embeddings.word_embeddings.weight"] + 1
    assert_refused(r"cls\.predictions\.decoder\.weight differs from bert\.emb", tmp_path, arrays)


def test_a_bias_under_the_decoders_name_alone(tmp_path):
    arrays = foreign.tensors("mlm")
    arrays["cls.predictions.decoder.bias"] = arrays.pop("cls.predictions.bias")
    params, account = taken(tmp_path, arrays)
    assert account.loaded["mlm/bias"] == "cls.predictions.decoder.bias"
    np.testing.assert_array_equal(params["mlm/bias"], arrays["cls.predictions.decoder.bias"])


def test_a_shape_that_does_not_fit_is_named_with_both(tmp_path):
    arrays = foreign.tensors()
    name = "bert.encoder.layer.1.output.dense.weight"
    arrays[name] = arrays[name].T
    message = rf"{re.escape(name)} is 20 x 12 and the model of .*config\.json has 12 x 20"
    assert_refused(message, tmp_path, arrays)
    params, account = taken(tmp_path, arrays, "BertModel", Allowed("1.output.dense.weight", ""))
    path = "encoder/layer_1/feed_forward/output/kernel"
    assert account.left_out == {name: "20 x 12 where the model has 12 x 20"}
    assert account.made == {path: ("normal, cut at two deviations", 240, path)}
    assert 0 < np.abs(params[path]).max() <= 2 * 0.02  # as the model is initialised
    assert np.std(params[path]) > 0.01


def test_a_missing_tensor_is_named_and_made_anew_where_allowed(tmp_path):
    arrays = foreign.tensors()
    name = "bert.encoder.layer.0.attention.output.LayerNorm.weight"
    del arrays[name], arrays["bert.encoder.layer.0.output.dense.bias"]
    assert_refused(rf"weights has no {re.escape(name)} and 1 more, which", tmp_path, arrays)
    params, account = taken(tmp_path, arrays, "BertModel", Allowed(r"layer\.0\.", ""))
    scale, bias = "attention_norm/scale", "feed_forward/output/bias"
    assert account.made == {
        f"encoder/layer_0/{scale}": ("ones", 12, f"encoder/layer_0/{scale}"),
        f"encoder/layer_0/{bias}": ("zeros", 12, f"encoder/layer_0/{bias}"),
    }
    assert (params["encoder/layer_0/attention_norm/scale"] == 1).all()


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        ("BertForPreTraining", r"bert\.pooler\.dense\.weight and 8 more"),
        ("BertForMaskedLM", r"cls\.predictions\.transform\.dense\.weight and 4 more"),
        ("BertForSequenceClassification", r"bert\.pooler\.dense\.weight and 3 more"),
        ("BertForTokenClassification", r"classifier\.weight and 1 more"),
        ("BertForQuestionAnswering", r"qa_outputs\.weight and 1 more"),
    ],
)
def test_a_head_that_the_class_has_must_be_there(kind, named, tmp_path):
    assert_refused(rf"weights has no {named}, which the model", tmp_path, foreign.tensors(), kind)
    allowed = Allowed("cls|classifier|pooler|qa", "")
    params, account = taken(tmp_path, foreign.tensors(), kind, allowed)
    assert {path.split("/")[0] for path in params} == {"encoder"}
    assert not account.made  # a whole head of noise would pass for something learnt


def test_a_classifier_without_pooler_is_refused(tmp_path):
    arrays = foreign.tensors("classifier")
    assert_refused(r"has no bert\.pooler\.dense\.weight", tmp_path, arrays)


def test_layers_beyond_the_config_are_unknown(tmp_path):
    assert_refused(r"bert\.encoder\.layer\.2\..* and 15 more, which BERT has not", tmp_path,
                   foreign.tensors(layers=3))  # fmt: skip


def test_no_bert_at_all_is_named(tmp_path):
    assert_refused(r"weights holds no BERT: none of its 1 tensors", tmp_path, {"a": np.zeros(1)})


def test_half_precision_is_widened_and_counted(tmp_path):
    arrays = {name: array.astype(np.float16) for name, array in foreign.tensors().items()}
    params, account = taken(tmp_path, arrays)
    assert account.converted == {"float16": len(arrays)}
    wanted = arrays["bert.embeddings.word_embeddings.weight"].astype(np.float32)
    np.testing.assert_array_equal(params["encoder/embeddings/token"], wanted)
    arrays["bert.embeddings.LayerNorm.bias"] = np.zeros(12, np.int8)
    assert_refused(r"LayerNorm\.bias holds int8, and parameters are floats", tmp_path, arrays)


def test_double_precision_is_rounded_and_it_says_so(tmp_path):
    arrays = {name: array.astype(np.float64) for name, array in foreign.tensors().items()}
    params, account = taken(tmp_path, arrays)
    (line,) = (line for line in table(account, params).splitlines() if "float64" in line)
    assert line.split() == ["rounded", str(len(arrays)), "float64", "to", "float32"]


def test_a_head_is_made_anew_as_fine_tuning_begins_with_it(tmp_path):
    (row,) = (row for row in names.HEADS if row.ours == "classifier/dense/kernel")
    labels = tuple(map(str, range(1000)))
    described_here = dataclasses.replace(described(tmp_path), labels=labels)
    drawn, how = fresh(row, described_here)
    deviation = described_here.model.init_stddev
    assert how == "normal"
    assert np.abs(drawn).max() > 3 * deviation
    assert drawn.std() == pytest.approx(deviation, rel=0.05)


def test_the_table_counts_every_tensor(tmp_path):
    arrays = foreign.tensors("pooler", "mlm")
    arrays["bert.embeddings.position_ids"] = np.arange(16)[None]
    for n in range(5):
        arrays[f"rnn.{n}"] = np.zeros(3, np.float32)
    del arrays["bert.pooler.dense.bias"]
    params, account = taken(tmp_path, arrays, "BertModel", Allowed("pooler", "^rnn"))
    lines = [line.split() for line in table(account, params).splitlines()]
    count = sum(array.size for name, array in arrays.items() if name.startswith("bert.e")) - 16
    assert lines[0] == ["tensors", "parameters"]
    assert lines[1] == ["encoder", "37", f"{count:,}", "loaded"]
    assert lines[2] == ["pooler", "1", "144", "loaded"]
    assert lines[3] == ["mlm", "5", "204", "loaded"]
    assert lines[4] == ["next", "0", "0", "not", "there"]
    text = table(account, params)
    assert re.search(r"left out +1 +bert\.embeddings\.position_ids: a buffer", text)
    assert re.search(r"left out +5 +rnn\.0, rnn\.1, rnn\.2 and 2 more: not of BERT", text)
    assert re.search(r"made anew +1 +12  pooler/dense/bias: zeros", text)


def test_what_the_config_says(tmp_path):
    said = described(tmp_path, hidden_act="gelu_new", layer_norm_eps=1e-7, type_vocab_size=1)
    model = said.model
    assert (model.gelu, model.layer_norm_epsilon, model.segment_types) == ("tanh", 1e-7, 1)
    assert (model.width, model.layers, model.heads, model.feed_forward) == (12, 2, 3, 20)
    assert said.labels == foreign.LABELS
    assert (model.vocab_size, model.positions) == (24, 16)


@pytest.mark.parametrize(
    ("name", "is_original", "form"),
    [
        ("gelu", False, "erf"),
        ("gelu_pytorch_tanh", False, "tanh"),
        ("gelu", True, "tanh"),  # google-research/bert modeling.py computes the tanh form
    ],
)
def test_the_form_of_gelu(name, is_original, form, tmp_path):
    foreign.write_description(tmp_path, hidden_act=name)
    said = architecture.read(tmp_path / "config.json", is_original=is_original)
    assert said.model.gelu == form


def test_what_the_config_leaves_out_is_as_bert_has_it(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    model = architecture.read(tmp_path / "config.json", is_original=False).model
    # BertConfig of transformers 4.57: BERT-Base, uncased.
    assert (model.vocab_size, model.positions, model.segment_types) == (30522, 512, 2)
    assert (model.width, model.layers, model.heads, model.feed_forward) == (768, 12, 12, 3072)
    assert (model.layer_norm_epsilon, model.dropout, model.gelu) == (1e-12, 0.1, "erf")


@pytest.mark.parametrize("kind", KINDS)
def test_a_config_that_is_written_reads_as_the_same(kind, tmp_path):
    said = described(tmp_path, kind, hidden_act="gelu_new", layer_norm_eps=1e-6)
    architecture.write(tmp_path, said.model, kind, labels=said.labels, problem="", pad=0)
    again = architecture.read(tmp_path / "config.json", is_original=False)
    assert again == said
    values = json.loads((tmp_path / "config.json").read_text("utf-8"))
    assert values["label2id"] == {label: n for n, label in enumerate(foreign.LABELS)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "roberta"}, r"model_type 'roberta' is not supported, only 'bert'"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type 'relative_key' is"),
        ({"hidden_act": "relu"}, "hidden_act 'relu' is not supported"),
        ({"is_decoder": True}, "is_decoder True is not supported"),
        ({"architectures": ["BertLMHeadModel"]}, "architecture 'BertLMHeadModel' is"),
        ({"hidden_size": "12"}, r"config\.json: model\.width must be int"),
        ({"id2label": {"0": "a", "2": "b"}}, "id2label must give a name to every number"),
        ({"id2label": {"0": "a", "1": "a"}}, "id2label gives one name to two numbers"),
        ({"id2label": None, "num_labels": None}, r"num_labels must be a whole number, not None"),
        ({"architectures": 5}, r"architectures must be a list of names, not 5"),
        ({"problem_type": 5}, r"problem_type must be a name, not 5"),
    ],
)
def test_another_architecture_is_refused_in_one_sentence(changes, message, tmp_path):
    with pytest.raises(InputError, match=message):
        described(tmp_path, **changes)


FIELDS = (
    *(theirs for theirs, _ in architecture.FIELDS.values()),
    *architecture.PLAIN,
    *("model_type", "hidden_act", "architectures", "id2label", "num_labels", "problem_type"),
)


@pytest.mark.parametrize("name", FIELDS)
def test_any_value_of_a_field_is_taken_or_refused_in_one_sentence(name, tmp_path):
    for value in (None, -1, 0, 5, 1.5, True, "5", [], [5], ["x"], {}, {"x": 5}, {"0": None}):
        changes = {"id2label": None} if name == "num_labels" else {}
        said = refusal(tmp_path, **changes | {name: value})
        assert not said or said.startswith(f"{tmp_path}/config.json: "), value
        assert "\n" not in said


def refusal(tmp_path, **changes):
    """What an InputError says, or nothing where there is none."""
    try:
        described(tmp_path, **changes)
    except InputError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_config_that_is_none_is_named(content, tmp_path):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError, match=r"config\.json is not"):
        architecture.read(tmp_path / "config.json", is_original=False)
