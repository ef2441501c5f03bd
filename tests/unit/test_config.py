"""Building the frozen configs: names, types, values, and messages that name the field."""

import dataclasses
import re

import pytest
from ml_collections import ConfigDict

from bert_jax.config import (
    InstancesConfig,
    MaskingConfig,
    MeshConfig,
    ModelConfig,
    OptimizerConfig,
    PhaseConfig,
    PrepareConfig,
    PretrainConfig,
    TokenizerConfig,
)
from bert_jax.errors import InputError
from bert_jax.fields import build
from bert_jax.finetune_config import FinetuneConfig, LabelledDataConfig

TOKENIZER = dict(
    path="", kind="wordpiece", vocab_size=100, lowercase=True, chinese_words=False,
    max_word_characters=100, train_megabytes=1,
)  # fmt: skip
INSTANCES = dict(
    objective="mlm+nsp", length=128, passes=[1], short_probability=0.1, packing=True,
    words="pieces",
)  # fmt: skip
PREPARE = dict(
    sources=["a.txt"], text_field="text", max_documents=0, heldout_fraction=0.01,
    tokenizer=TOKENIZER, instances=INSTANCES, drop_duplicate_paragraphs=False, shards=1,
    shard_megabytes=1, workers=0, seed=0,
)  # fmt: skip
MASKING = dict(
    unit="token", span_words=1, rate=0.15, max_predictions=20, mask_share=0.8, random_share=0.1,
    random_special=True,
)  # fmt: skip
MODEL = dict(
    vocab_size=0, positions=128, segment_types=2, width=8, layers=1, heads=2, feed_forward=16,
    gelu="erf", layer_norm_epsilon=1e-12, init_stddev=0.02, dropout=0.1, attention_dropout=0.1,
    attention="auto", compute_dtype="float32", remat="none", scan_layers=False,
)  # fmt: skip
OPTIMIZER = dict(
    name="adam", learning_rate=1e-3, schedule="linear", warmup_fraction=0.1, decay_fraction=0.1,
    b1=0.9, b2=0.999, epsilon=1e-6, bias_correction=True, weight_decay=0.01, not_decayed="bias$",
    clip_norm=1.0,
)  # fmt: skip
MESH = dict(data=-1, fsdp=1, tensor=1)
PHASE = dict(
    data="", steps=5, batch_size=4, microbatches=1, max_predictions=8, learning_rate=0.0,
    warmup_fraction=0.0,
)  # fmt: skip
PRETRAIN = dict(
    task="pretrain", data="d", init_from="none", model=MODEL, masking=MASKING,
    optimizer=OPTIMIZER, mesh=MESH,
    batch_size=8, microbatches=2, steps=10, then=(PHASE,), budget_minutes=0.0, max_skipped=3,
    log_every=1, eval_every=5, eval_batches=0, save_every=5, keep=1, profile_start=0,
    profile_steps=5, prng="rbg", seed=0,
)  # fmt: skip
FINETUNE = dict(
    task="classify", init_from="none", tokenizer="t", model=MODEL, optimizer=OPTIMIZER, mesh=MESH,
    data=dict(
        train="a.csv", validation="", test="", text_field="text", pair_field="",
        label_field="label", label_separator="", id_field="", positive_label="",
        token_column=0, tag_column=-1, tag_pieces="first",
        answer_rules="squad", answer_shift=0,
        columns=(), form="plain", further_tests=(), choice_fields=(),
    ),
    batch_size=8, max_length=64, window_overlap=0, epochs=1, freeze_embeddings=False,
    freeze_layers=0, layer_decay=1.0, head_steps=0, class_weights="none",
    evals_per_epoch=1, patience=0, metric="accuracy", max_skipped=3, log_every=1, prng="rbg",
    seed=0, seeds=1, submissions=(), submit=False,
)  # fmt: skip
ALL = {
    TokenizerConfig: TOKENIZER,
    InstancesConfig: INSTANCES,
    PrepareConfig: PREPARE,
    MaskingConfig: MASKING,
    ModelConfig: MODEL,
    OptimizerConfig: OPTIMIZER,
    MeshConfig: MESH,
    PhaseConfig: PHASE,
    PretrainConfig: PRETRAIN,
    LabelledDataConfig: FINETUNE["data"],
    FinetuneConfig: FINETUNE,
}


def test_a_whole_config_is_built_with_its_parts():
    config = build(PretrainConfig, PRETRAIN)
    assert config.model == ModelConfig(**MODEL)
    assert config.mesh == MeshConfig(-1, 1, 1)
    assert config.batch_size == 8
    assert build(PretrainConfig, ConfigDict(PRETRAIN)) == config
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.batch_size = 9


def test_an_unknown_field_is_named_with_the_nearest_known_one():
    with pytest.raises(InputError, match=r"config\.batchsize .*did you mean config\.batch_size\?"):
        build(PretrainConfig, PRETRAIN | {"batchsize": 4})


def test_an_unknown_field_like_no_other_lists_the_known_ones():
    with pytest.raises(InputError, match=r"config\.zzz .*choose one of data, fsdp, tensor\."):
        build(MeshConfig, MESH | {"zzz": 4})


def test_the_path_leads_into_the_parts():
    wrong = PRETRAIN | {"optimizer": OPTIMIZER | {"learning_rat": 1.0}}
    with pytest.raises(
        InputError, match=r"config\.optimizer\.learning_rat .*config\.optimizer\.learning_rate\?"
    ):
        build(PretrainConfig, wrong)
    wrong = PRETRAIN | {"model": MODEL | {"width": "8"}}
    with pytest.raises(InputError, match=r"config\.model\.width must be int, not str \('8'\)"):
        build(PretrainConfig, wrong)


@pytest.mark.parametrize("cls", ALL)
def test_every_missing_field_is_named(cls):
    for name in ALL[cls]:
        rest = {key: value for key, value in ALL[cls].items() if key != name}
        with pytest.raises(InputError, match=rf"config\.{name} is missing"):
            build(cls, rest)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("batch_size", True, "config.batch_size must be int, not bool (True)"),
        ("batch_size", 8.0, "config.batch_size must be int, not float (8.0)"),
        ("batch_size", "8", "config.batch_size must be int, not str ('8')"),
        ("data", 8, "config.data must be str, not int (8)"),
        ("data", None, "config.data must be str, not NoneType (None)"),
    ],
)
def test_wrong_types(name, value, message):
    with pytest.raises(InputError, match=re.escape(message)):
        build(PretrainConfig, PRETRAIN | {name: value})


@pytest.mark.parametrize("value", ["0.1", True, None, [0.1]])
def test_only_numbers_are_floats(value):
    with pytest.raises(InputError, match=r"config\.rate must be float"):
        build(MaskingConfig, MASKING | {"rate": value})


@pytest.mark.parametrize("value", [1, 0, "True"])
def test_only_bools_are_bools(value):
    with pytest.raises(InputError, match=r"config\.packing must be bool"):
        build(InstancesConfig, INSTANCES | {"packing": value})


def test_a_part_must_be_a_mapping():
    with pytest.raises(InputError, match=r"config\.model must hold the fields of ModelConfig"):
        build(PretrainConfig, PRETRAIN | {"model": 3})


def test_an_int_becomes_a_float_and_a_list_a_tuple():
    rate = build(MaskingConfig, MASKING | {"rate": 1}).rate
    assert (rate, type(rate)) == (1.0, float)
    config = build(PrepareConfig, PREPARE | {"sources": ["a", "b"]})
    assert config.sources == ("a", "b")
    assert config.instances.passes == (1,)


def test_the_items_of_a_tuple_have_their_type():
    with pytest.raises(InputError, match=r"config\.sources must be str, not int"):
        build(PrepareConfig, PREPARE | {"sources": ["a", 3]})
    with pytest.raises(InputError, match=r"config\.sources must be"):
        build(PrepareConfig, PREPARE | {"sources": "a.txt"})


TOO_SMALL = [
    (TokenizerConfig, "tokenizer.", dict(vocab_size=15, max_word_characters=0, train_megabytes=0)),
    (InstancesConfig, "instances.", dict(length=7, passes=[0])),
    (PrepareConfig, "", dict(max_documents=-1, shards=0, shard_megabytes=0, workers=-1)),
    (MaskingConfig, "masking.", dict(max_predictions=0, span_words=0)),
    (
        ModelConfig,
        "model.",
        dict(
            vocab_size=-1, positions=0, segment_types=0, width=0, layers=0, heads=0,
            feed_forward=0,
        ),
    ),
    (
        OptimizerConfig,
        "optimizer.",
        dict(learning_rate=-1.0, epsilon=-1.0, weight_decay=-0.1, clip_norm=-1.0),
    ),
    (
        PhaseConfig,
        "then[...].",
        dict(steps=0, batch_size=0, microbatches=0, max_predictions=0, learning_rate=-1.0),
    ),
    (
        PretrainConfig,
        "",
        dict(
            batch_size=0, microbatches=0, steps=0, log_every=0, eval_every=0, save_every=0, keep=0,
            eval_batches=-1, max_skipped=0, profile_steps=0, profile_start=-1, budget_minutes=-1.0,
        ),
    ),
    (LabelledDataConfig, "data.", dict(answer_shift=-1)),
    (
        FinetuneConfig,
        "",
        dict(
            batch_size=0, epochs=0, evals_per_epoch=0, log_every=0, max_length=7, freeze_layers=-1,
            patience=-1, max_skipped=0, window_overlap=-1, head_steps=-1, seeds=0,
        ),
    ),
]  # fmt: skip
SHARES = [
    (InstancesConfig, "instances.", ["short_probability"]),
    (PrepareConfig, "", ["heldout_fraction"]),
    (MaskingConfig, "masking.", ["rate", "mask_share", "random_share"]),
    (ModelConfig, "model.", ["dropout", "attention_dropout"]),
    (OptimizerConfig, "optimizer.", ["warmup_fraction", "decay_fraction", "b1", "b2"]),
    (PhaseConfig, "then[...].", ["warmup_fraction"]),
    (FinetuneConfig, "", ["layer_decay"]),
]
CHOICES = [
    (TokenizerConfig, "tokenizer.", {"kind": "wordpeice"}),
    (InstancesConfig, "instances.", {"objective": "nsp", "words": "jeiba"}),
    (MaskingConfig, "masking.", {"unit": "words"}),
    (ModelConfig, "model.", {"gelu": "relu", "compute_dtype": "float16"}),
    (ModelConfig, "model.", {"remat": "half", "attention": "flash"}),
    (OptimizerConfig, "optimizer.", {"schedule": "linaer", "name": "lamp"}),
    (PretrainConfig, "", {"task": "pretrian", "prng": "philox"}),
    (LabelledDataConfig, "data.", {"answer_rules": "sqaud"}),
    (FinetuneConfig, "", {"prng": "philox", "class_weights": "balance"}),
]
WRONG_VALUES = [
    *[(cls, part, n, v) for cls, part, values in TOO_SMALL for n, v in values.items()],
    *[(cls, part, n, v) for cls, part, names in SHARES for n in names for v in (-0.1, 1.1)],
    *[(cls, part, n, v) for cls, part, values in CHOICES for n, v in values.items()],
    (PrepareConfig, "", "sources", []),
    (InstancesConfig, "instances.", "passes", []),
    (PretrainConfig, "", "batch_size", 7),  # of two microbatches
    (OptimizerConfig, "optimizer.", "not_decayed", "(bias"),
    (ModelConfig, "model.", "width", 9),  # of two heads
    *[(ModelConfig, "model.", name, 1.0) for name in ("dropout", "attention_dropout")],
    *[(ModelConfig, "model.", "attention", way) for way in ("fused", "splash", "cudnn")],
    (FinetuneConfig, "", "window_overlap", 33),  # of 64
    (FinetuneConfig, "", "init_from", ""),
    (FinetuneConfig, "", "tokenizer", ""),  # with init_from=none
]


@pytest.mark.parametrize(("cls", "part", "name", "value"), WRONG_VALUES)
def test_a_wrong_value_names_its_field(cls, part, name, value):
    with pytest.raises(InputError, match=rf"config\.{re.escape(part + name)}\b") as caught:
        build(cls, ALL[cls] | {name: value})
    assert len(str(caught.value).splitlines()) == 1


def test_what_has_no_dropout_is_taken_without_it():
    for way in ("splash", "cudnn"):
        with pytest.raises(InputError, match=f"attention={way} has no dropout"):
            build(ModelConfig, MODEL | {"attention": way, "compute_dtype": "bfloat16"})
        changes = {"attention_dropout": 0.0, "compute_dtype": "bfloat16"}
        build(ModelConfig, MODEL | {"attention": way} | changes)
    with pytest.raises(InputError, match="cudnn computes in bfloat16 only"):
        build(ModelConfig, MODEL | {"attention": "cudnn", "attention_dropout": 0.0})


def test_the_nearest_choice_is_suggested():
    with pytest.raises(InputError, match=r"did you mean linear\?"):
        build(OptimizerConfig, OPTIMIZER | {"schedule": "linaer"})


def test_masking_shares_add_up_to_one_at_most():
    with pytest.raises(InputError, match=r"mask_share and .*random_share add up to more than 1"):
        build(MaskingConfig, MASKING | {"mask_share": 0.8, "random_share": 0.3})


def test_warm_up_and_decay_fit_into_the_run():
    build(OptimizerConfig, OPTIMIZER | {"warmup_fraction": 0.95})  # linear has no decay_fraction
    with pytest.raises(InputError, match=r"warmup_fraction and .*decay_fraction add up to more"):
        build(OptimizerConfig, OPTIMIZER | {"warmup_fraction": 0.95, "schedule": "wsd"})


def test_passes_are_one_for_all_sources_or_one_for_each():
    for passes in ([2], [2, 3]):
        instances = INSTANCES | {"passes": passes}
        build(PrepareConfig, PREPARE | {"sources": ["a", "b"], "instances": instances})
    instances = INSTANCES | {"passes": [1, 2, 3]}
    with pytest.raises(InputError, match=r"config\.instances\.passes has 3 numbers for 2 sources"):
        build(PrepareConfig, PREPARE | {"sources": ["a", "b"], "instances": instances})
