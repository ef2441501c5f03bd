"""Ours and others' train steps behind one signature: a batch in, its loss out.

What a batch is made into before a step, and the compilation for a batch of another shape, are
`prepare`'s, which no clock counts.
"""

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from bert_jax.arrays import PretrainBatch

IGNORED = -100  # the label of a token that no loss is taken of, as transformers has it
PADDED_TO = 8  # rows of a peer have a multiple of this many tokens
LEARNING_RATE, WEIGHT_DECAY, CLIP_NORM = 1e-4, 0.01, 1.0


class System(NamedTuple):
    prepare: Callable[[PretrainBatch], Any]
    step: Callable[[Any], float]  # of what was prepared


class Settings(NamedTuple):
    """What all systems are made from."""

    config: str  # name in configs/
    vocabulary: int
    length: int  # the longest row


class Instances(NamedTuple):
    """A batch with one instance a row, as peers take it."""

    input_ids: np.ndarray
    attention_mask: np.ndarray
    token_type_ids: np.ndarray
    labels: np.ndarray
    next_sentence_label: np.ndarray


def one_a_row(batch: PretrainBatch) -> Instances:
    """The instances of a packed batch, padded to the longest of them."""
    found = []
    tokens = batch.tokens
    labels = np.full(tokens.ids.shape, IGNORED, np.int64)
    rows, slots = np.nonzero(batch.mask_weights)
    labels[rows, batch.mask_positions[rows, slots]] = batch.mask_labels[rows, slots]
    for row, of_tokens in enumerate(tokens.instances):
        for instance in range(1, of_tokens.max() + 1):
            here = np.flatnonzero(of_tokens == instance)
            found.append((row, here, batch.next_labels[row, instance - 1]))
    longest = max(len(here) for _, here, _ in found)
    shape = (len(found), -(-longest // PADDED_TO) * PADDED_TO)
    result = Instances(
        input_ids=np.zeros(shape, np.int64),
        attention_mask=np.zeros(shape, np.int64),
        token_type_ids=np.zeros(shape, np.int64),
        labels=np.full(shape, IGNORED, np.int64),
        next_sentence_label=np.array([label for *_, label in found], np.int64),
    )
    for number, (row, here, _) in enumerate(found):
        used = slice(len(here))
        result.input_ids[number, used] = tokens.ids[row, here]
        result.attention_mask[number, used] = 1
        result.token_type_ids[number, used] = tokens.segments[row, here]
        result.labels[number, used] = labels[row, here]
    return result


def bert_jax(settings: Settings) -> System:
    """Our own train step, as `python -m bert_jax.pretrain` makes it."""
    from bert_jax.config import PretrainConfig
    from bert_jax.fields import build
    from bert_jax.tasks import pretrain
    from bert_jax.training.optimizer import make_optimizer
    from bert_jax.training.sharding import batch_placer, make_mesh
    from bert_jax.training.state import init_state

    config = _config(settings)
    config.prng = "rbg"
    config.optimizer.update(
        learning_rate=LEARNING_RATE, weight_decay=WEIGHT_DECAY, clip_norm=CLIP_NORM
    )
    config = build(PretrainConfig, config)
    mesh = make_mesh(config.mesh)
    step = pretrain.make_step(config, mesh, microbatches=1)
    state = init_state(
        lambda key: pretrain.init_params(config.model, key),
        make_optimizer(config.optimizer),
        seed=0,
        prng=config.prng,
        mesh=mesh,
    )
    place = batch_placer(mesh)

    def run(batch: PretrainBatch) -> float:
        nonlocal state
        state, metrics = step(state, place(batch))
        return float(metrics["loss"].total)

    return System(lambda batch: batch, run)


def hugging_face_torch(settings: Settings, *, compiled: bool, masked_only: bool) -> System:
    """BertForPreTraining in PyTorch; `masked_only` gives its head the masked tokens alone."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.BertConfig(**sizes(_config(settings).model))
    model = transformers.BertForPreTraining(config).train()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True
    )
    cross_entropy = torch.nn.functional.cross_entropy

    def loss_of(inputs: dict[str, Any]) -> Any:
        if not masked_only:
            return model(**inputs).loss
        labels, following = inputs.pop("labels"), inputs.pop("next_sentence_label")
        found = model.bert(**inputs)
        is_masked = labels != IGNORED
        logits = model.cls.predictions(found.last_hidden_state[is_masked])
        return cross_entropy(logits, labels[is_masked]) + cross_entropy(
            model.cls.seq_relationship(found.pooler_output), following
        )

    if compiled:
        loss_of = torch.compile(loss_of)

    def prepare(batch: PretrainBatch) -> dict[str, Any]:
        return {name: torch.from_numpy(a) for name, a in one_a_row(batch)._asdict().items()}

    def run(inputs: dict[str, Any]) -> float:
        loss = loss_of(inputs)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    return System(prepare, run)


class FlaxStep(NamedTuple):
    """FlaxBertForPreTraining's."""

    model: Any
    optimizer: Any  # of optax
    update: Callable[..., Any]  # jitted: ((params, moments, key), inputs) -> (the same, loss)


def flax_step(config: Any, *, dtype: Any, has_parameters: bool) -> FlaxStep:
    """With optax's AdamW, jitted whole; `config` is a BertConfig, without parameters shapes do."""
    import jax
    import optax
    import transformers

    model = transformers.FlaxBertForPreTraining(config, dtype=dtype, _do_init=has_parameters)
    optimizer = optax.chain(
        optax.clip_by_global_norm(CLIP_NORM),
        optax.adamw(LEARNING_RATE, weight_decay=WEIGHT_DECAY),
    )
    cross_entropy = optax.softmax_cross_entropy_with_integer_labels

    def loss_of(params, inputs, key):
        found = model(
            inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            token_type_ids=inputs["token_type_ids"],
            params=params,
            dropout_rng=key,
            train=True,
        )
        is_masked = inputs["labels"] != IGNORED
        losses = cross_entropy(found.prediction_logits, inputs["labels"] * is_masked)
        mlm = (losses * is_masked).sum() / is_masked.sum()
        following = cross_entropy(
            found.seq_relationship_logits, inputs["next_sentence_label"]
        ).mean()
        return mlm + following

    def update(state, inputs):
        params, moments, key = state
        key, dropout = jax.random.split(key)
        loss, grads = jax.value_and_grad(loss_of)(params, inputs, dropout)
        updates, moments = optimizer.update(grads, moments, params)
        return (optax.apply_updates(params, updates), moments, key), loss

    return FlaxStep(model, optimizer, jax.jit(update, donate_argnums=0))


def hugging_face_flax(settings: Settings) -> System:
    """`flax_step` in float32."""
    import jax
    import jax.numpy as jnp
    import transformers

    config = transformers.BertConfig(**sizes(_config(settings).model))
    model, optimizer, update = flax_step(config, dtype=jnp.float32, has_parameters=True)
    state = (model.params, jax.jit(optimizer.init)(model.params), jax.random.key(0, impl="rbg"))

    compiled: dict[tuple[int, ...], Any] = {}  # by the shape of the batch

    def prepare(batch: PretrainBatch) -> dict[str, Any]:
        inputs = {name: a.astype(np.int32) for name, a in one_a_row(batch)._asdict().items()}
        shape = inputs["input_ids"].shape
        if shape not in compiled:
            compiled[shape] = update.lower(state, inputs).compile()
        return inputs

    def run(inputs: dict[str, Any]) -> float:
        nonlocal state
        state, loss = compiled[inputs["input_ids"].shape](state, inputs)
        return loss.item()

    return System(prepare, run)


def _config(settings: Settings) -> Any:
    config = importlib.import_module(f"configs.{settings.config}").get_config()
    config.model.update(
        vocab_size=settings.vocabulary,
        positions=max(settings.length, config.model.positions),
        compute_dtype="float32",
    )
    return config


def sizes(model: Any) -> dict[str, Any]:
    """Of a BertConfig, from the fields of a ModelConfig."""
    return {
        "vocab_size": model.vocab_size,
        "hidden_size": model.width,
        "num_hidden_layers": model.layers,
        "num_attention_heads": model.heads,
        "intermediate_size": model.feed_forward,
        "max_position_embeddings": model.positions,
        "hidden_dropout_prob": model.dropout,
        "attention_probs_dropout_prob": model.attention_dropout,
    }


OURS = "bert_jax"
# Ours again, as malloc is by itself: see bert_jax.process.
OURS_UNSETTLED = "bert_jax_unsettled"
PEERS: dict[str, Callable[[Settings], System]] = {
    "torch": lambda settings: hugging_face_torch(settings, compiled=False, masked_only=False),
    "torch_masked_only": lambda settings: hugging_face_torch(
        settings, compiled=False, masked_only=True
    ),
    "torch_compile": lambda settings: hugging_face_torch(
        settings, compiled=True, masked_only=False
    ),
    "flax": hugging_face_flax,
}
SYSTEMS = {OURS: bert_jax, OURS_UNSETTLED: bert_jax, **PEERS}
