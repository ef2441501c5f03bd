"""Every file under configs/ builds its dataclass, and its whole train step traces."""

import dataclasses
import functools
import importlib
import pkgutil

import jax
import numpy as np
import pytest
import small
from ml_collections.config_flags import config_path

import configs
from bert_jax.arrays import PretrainBatch, Tokens
from bert_jax.config import MeshConfig, PrepareConfig, PretrainConfig
from bert_jax.data.shapes import common_shape
from bert_jax.fields import build
from bert_jax.finetune_config import FinetuneConfig
from bert_jax.model.bert import PretrainModel
from bert_jax.tasks import all_tasks, pretrain
from bert_jax.tasks.batches import packed, text_lengths
from bert_jax.tasks.forward import Forward
from bert_jax.tasks.layer_rates import moves
from bert_jax.tasks.task import Text
from bert_jax.tasks.tuning import make_objective
from bert_jax.training.optimizer import make_optimizer
from bert_jax.training.schedules import make_schedule
from bert_jax.training.sharding import batch_placer, make_mesh, row_shards
from bert_jax.training.state import init_state, state_shapes
from bert_jax.training.step import by_step, make_train_step

NAMES = sorted(module.name for module in pkgutil.iter_modules(configs.__path__))
STAGES = {"prepare": PrepareConfig, "pretrain": PretrainConfig, "finetune": FinetuneConfig}
VARIANTS = ("", "tiny")
BERT_VOCABULARY = 30_522
INSTANCES = 3


def named(stage):
    return [name for name in NAMES if name.startswith(f"{stage}_")]


def load(name, variant=""):
    """The dataclass of a config file; what a user has to name is filled in."""
    values = importlib.import_module(f"configs.{name}").get_config(variant)
    if name.startswith("finetune_"):
        values.init_from = "runs/base"
    return build(STAGES[name.split("_")[0]], values)


def pretrain_batch(rows, length, slots, vocab_size, seed=0):
    rng = np.random.default_rng(seed)
    return PretrainBatch(
        tokens=Tokens(
            ids=rng.integers(vocab_size, size=(rows, length), dtype=np.int32),
            segments=rng.integers(2, size=(rows, length), dtype=np.int32),
            positions=np.tile(np.arange(length, dtype=np.int32), (rows, 1)),
            instances=rng.integers(1, INSTANCES + 1, size=(rows, length), dtype=np.int32),
        ),
        mask_positions=rng.integers(length, size=(rows, slots), dtype=np.int32),
        mask_labels=rng.integers(vocab_size, size=(rows, slots), dtype=np.int32),
        mask_weights=np.ones((rows, slots), np.float32),
        cls_positions=rng.integers(length, size=(rows, INSTANCES), dtype=np.int32),
        next_labels=rng.integers(2, size=(rows, INSTANCES), dtype=np.int32),
        next_weights=np.ones((rows, INSTANCES), np.float32),
    )


def task_of(config):
    """The task, and what it trains on: a text as long as there are any, and a short one."""
    kind = all_tasks.named(config.task)
    kind.check(config)
    labels = ("value",) if config.task == "regress" else ("0", "1")
    task = kind(labels, small.tokenizer(), config.max_length, config.window_overlap)
    pair = "b" if config.data.pair_field else ""
    rows = [task.row_of(Text("a " * n, pair, "here", ("a", "b"))) for n in (config.max_length, 1)]
    encoded = task.encode(rows).examples
    examples = [encoded[0], encoded[-1]]
    multiple = row_shards(make_mesh(config.mesh))
    texts = [text_lengths(task, examples)]
    shape = common_shape(texts, max_length=config.max_length, multiple=multiple)
    return task, packed(task, examples, config.batch_size, shape)


@pytest.mark.parametrize("name", named("finetune"))
def test_the_way_to_own_data_leaves_no_public_rows_behind(name):
    module, data = importlib.import_module(f"configs.{name}"), load(name).data
    if "Own data" in module.__doc__:
        for field in ("train", "validation", "test"):
            if getattr(data, field):
                assert f"--config.data.{field}=" in module.__doc__, field


def shapes(tree):
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)


def trace(init_params, optimizer, rate_of, objective, batch, **options):
    """The state before and what one whole step makes of it, in shapes alone."""
    mesh = make_mesh(MeshConfig(data=-1, fsdp=1, tensor=1))
    state = state_shapes(init_params, optimizer, prng="threefry2x32", mesh=mesh)
    step = make_train_step(objective, optimizer, rate_of, mesh=mesh, **options)
    after, metrics = jax.eval_shape(step, state, batch)
    assert shapes(after) == shapes(state)
    assert all(leaf.shape == () for leaf in jax.tree.leaves(metrics))
    return after, metrics


def test_every_file_belongs_to_a_stage():
    assert {name.split("_")[0] for name in NAMES} == set(STAGES)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", NAMES)
def test_builds(name, variant):
    load(name, variant)


@pytest.mark.parametrize("name", NAMES)
def test_docstring_gives_the_command(name):
    stage = name.split("_")[0]
    text = " ".join(importlib.import_module(f"configs.{name}").__doc__.split())
    assert f"python -m bert_jax.{stage} --config=configs/{name}.py" in text


@pytest.mark.parametrize("name", NAMES)
def test_tiny_is_another_config(name):
    assert load(name, "tiny") != load(name)


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_variant_is_refused(name):
    with pytest.raises(ValueError, match="no variant 'enormous'"):
        importlib.import_module(f"configs.{name}").get_config("enormous")


# Those that take others' variants for their own.
REFUSED = [
    *(("finetune_cmrc", variant, "cmrc, drcd, tiny") for variant in ("1.1", "2.0", "enormous")),
    *(("finetune_squad", variant, "1.1, 2.0, tiny") for variant in ("drcd", "enormous")),
]


@pytest.mark.parametrize(("name", "variant", "known"), REFUSED)
def test_a_variant_of_another_config_is_refused(name, variant, known):
    with pytest.raises(ValueError, match=f"^no variant '{variant}': choose one of {known}$"):
        importlib.import_module(f"configs.{name}").get_config(variant)


def test_questions_are_learnt_by_the_settings_of_their_published_numbers():
    # Hugging Face's command names neither, and its defaults are 0; google-research/bert has both.
    for name, variant, wanted in (
        ("finetune_squad", "", (0.0, 0.0)),
        ("finetune_squad", "2.0", (0.0, 0.0)),
        ("finetune_cmrc", "drcd", (0.1, 0.01)),
    ):
        optimizer = load(name, variant).optimizer
        assert (optimizer.warmup_fraction, optimizer.weight_decay) == wanted


@functools.cache  # most tiny variants are one and the same config
def trace_pretraining(config):
    vocab_size = config.model.vocab_size or BERT_VOCABULARY
    model = dataclasses.replace(config.model, vocab_size=vocab_size)
    optimizer = make_optimizer(config.optimizer)
    rate_of = by_step(make_schedule(config.optimizer, total_steps=config.steps))
    row = pretrain_batch(1, model.positions, config.masking.max_predictions, vocab_size)
    batch = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((config.batch_size, *leaf.shape[1:]), leaf.dtype), row
    )
    return trace(
        lambda key: pretrain.init_params(model, key),
        optimizer,
        rate_of,
        pretrain.make_objective(PretrainModel(model, None)),
        batch,
        microbatches=config.microbatches,
    )


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", named("pretrain"))
def test_a_pretraining_step_traces(name, variant):
    config = load(name, variant)
    after, metrics = trace_pretraining(config)
    table = after.params["encoder"]["embeddings"]["token"]
    assert table.shape == (BERT_VOCABULARY, config.model.width)
    assert set(metrics) == {
        *("mlm_loss", "next_loss", "mlm_accuracy", "next_accuracy", "tokens"),
        *("loss", "skipped", "gradient_norm", "learning_rate"),
    }


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", named("finetune"))
def test_a_fine_tuning_step_traces(name, variant):
    config = load(name, variant)
    model = dataclasses.replace(config.model, vocab_size=BERT_VOCABULARY)
    task, batch = task_of(config)
    forward = Forward(task, model, make_mesh(config.mesh))
    optimizer = make_optimizer(config.optimizer, moves(config, model.layers))
    rate_of = by_step(make_schedule(config.optimizer, total_steps=100))
    assert batch.tokens.rows.ids.shape[-1] == config.max_length
    after, metrics = trace(forward.init_params, optimizer, rate_of, make_objective(forward), batch)
    assert after.params["encoder"]["embeddings"]["token"].shape[0] == BERT_VOCABULARY
    names = {"loss", "tokens", "skipped", "gradient_norm", "learning_rate"}
    assert names <= set(metrics)


@pytest.mark.parametrize("language", ["zh", "en"])
def test_wikipedia_in_two_languages(language):
    config = load("prepare_wikipedia", language)
    assert config.sources == (f"tfds:wikipedia/20230601.{language}",)
    assert config.tokenizer.chinese_words == (language == "zh")


def test_base_to_the_number():
    config = load("pretrain_base")
    model, optimizer = config.model, config.optimizer
    assert (model.layers, model.width, model.heads, model.feed_forward) == (12, 768, 12, 3072)
    assert (model.positions, model.dropout, model.attention_dropout) == (512, 0.1, 0.1)
    assert (config.batch_size, config.steps) == (256, 1_000_000)
    assert (optimizer.learning_rate, optimizer.b1, optimizer.b2) == (5e-5, 0.9, 0.999)
    assert optimizer.weight_decay == 0  # Adam, not AdamW
    assert (config.masking.rate, config.masking.mask_share, config.masking.random_share) == (
        *(0.15, 0.8, 0.1),
    )


def test_large_lamb_to_the_number():
    # NVIDIA/DeepLearningExamples, PyTorch/LanguageModeling/BERT, run_pretraining.sh.
    config = load("pretrain_large_lamb")
    model, optimizer = config.model, config.optimizer
    assert (model.layers, model.width, model.heads, model.feed_forward) == (24, 1024, 16, 4096)
    assert (optimizer.name, optimizer.weight_decay, optimizer.epsilon) == ("lamb", 0.01, 1e-6)
    assert (optimizer.learning_rate, optimizer.warmup_fraction) == (6e-3, 0.2843)
    assert (config.steps, config.batch_size, config.masking.max_predictions) == (7038, 65_536, 20)
    (second,) = config.then
    assert (second.learning_rate, second.warmup_fraction) == (4e-3, 0.128)
    assert (second.steps, second.batch_size, second.max_predictions) == (1563, 32_768, 80)


def test_a_field_of_a_later_phase_is_set_by_its_type():
    values = importlib.import_module("configs.pretrain_large_lamb").get_config()
    path = "then[0].data"
    assert config_path.get_type(path, values) is str
    config_path.set_value(path, values, "runs/data512")
    assert build(PretrainConfig, values).then[0].data == "runs/data512"
    with pytest.raises(TypeError):  # typed, as every other field
        config_path.set_value("then[0].steps", values, "many")


def test_fine_tuning_defaults():
    config = load("finetune_sentiment")
    assert (config.optimizer.learning_rate, config.batch_size, config.epochs) == (2e-5, 32, 3)


def compilations(caplog, init_params, optimizer, rate_of, objective, batches, mesh, **options):
    """How often XLA compiles the step while it goes through the batches.

    Not `_cache_size()`: that also counts calls that found the executable by another way.
    """
    state = init_state(init_params, optimizer, seed=0, prng="threefry2x32", mesh=mesh)
    step = make_train_step(objective, optimizer, rate_of, mesh=mesh, **options)
    with jax.log_compiles():
        for batch in map(batch_placer(mesh), batches):
            state, _ = step(state, batch)
    assert int(state.step) == len(batches)
    messages = [record.getMessage() for record in caplog.records]
    return sum("Finished XLA compilation of jit(train_step)" in text for text in messages)


@pytest.mark.parametrize("microbatches", [1, 2])
def test_a_pretraining_step_compiles_once(microbatches, caplog):
    config = load("pretrain_base", "tiny")
    model = dataclasses.replace(config.model, vocab_size=64)
    mesh = make_mesh(config.mesh)
    optimizer = make_optimizer(config.optimizer)
    rate_of = by_step(make_schedule(config.optimizer, total_steps=3))
    compiled = compilations(
        caplog,
        lambda key: pretrain.init_params(model, key),
        optimizer,
        rate_of,
        pretrain.make_objective(PretrainModel(model, mesh)),
        [pretrain_batch(16, 16, 4, 64, seed) for seed in range(3)],
        mesh,
        microbatches=microbatches,
    )
    assert compiled == 1


def test_a_fine_tuning_step_compiles_once(caplog):
    config = load("finetune_sentiment", "tiny")
    model = dataclasses.replace(config.model, vocab_size=64)
    mesh = make_mesh(config.mesh)
    optimizer = make_optimizer(config.optimizer)
    rate_of = by_step(make_schedule(config.optimizer, total_steps=3))
    task, batch = task_of(config)
    forward = Forward(task, model, mesh)
    compiled = compilations(
        caplog,
        forward.init_params,
        optimizer,
        rate_of,
        make_objective(forward),
        [batch] * 3,
        mesh,
    )
    assert compiled == 1
