"""What fine-tuning begins with: a pretrained encoder and its tokenizer, or a fresh one."""

import dataclasses
from typing import NamedTuple

from jaxtyping import PyTree

from bert_jax.config import FinetuneConfig, ModelConfig
from bert_jax.errors import InputError
from bert_jax.tasks import saved_model
from bert_jax.tasks.vocabulary import fit_vocabulary
from bert_jax.text import tokenizer as tokenizers
from bert_jax.text.tokenizer import Tokenizer

# Fields of `model` that are this run's own; the others are the checkpoint's.
OWN_FIELDS = (
    *("dropout", "attention_dropout", "attention", "compute_dtype"),
    *("remat", "scan_layers"),
)


class Start(NamedTuple):
    """What fine-tuning begins with."""

    model: ModelConfig
    tokenizer: Tokenizer
    pretrained: saved_model.SavedModel | None


def find_start(config: FinetuneConfig) -> Start:
    """Raises InputError where the config asks for more than that model has."""
    if config.init_from == "none":
        tokenizer = tokenizers.load(config.tokenizer)
        model = fit_vocabulary(config.model, tokenizer)
        pretrained = None
    else:
        pretrained = saved_model.load(config.init_from)
        tokenizer = pretrained.tokenizer
        own = {name: getattr(config.model, name) for name in OWN_FIELDS}
        model = dataclasses.replace(pretrained.model, **own)
        # The config file has sizes too, and an override of them would go unnoticed.
        print(f"model: as {config.init_from} has it, {model.layers} layers of width {model.width}")
    if config.max_length > model.positions:
        raise InputError(
            f"config.max_length={config.max_length} is over the {model.positions} positions of the"
            " model: lower it."
        )
    if config.freeze_layers > model.layers:
        raise InputError(
            f"config.freeze_layers={config.freeze_layers} is over the {model.layers} layers of the"
            " model: lower it."
        )
    return Start(model, tokenizer, pretrained)


def load_encoder(pretrained: saved_model.SavedModel, params: PyTree) -> PyTree:
    """`params` with the encoder and the pooler of the pretrained model, in its place."""
    saved = pretrained.params(_merge(pretrained.param_shapes(), params))
    return {**params, "encoder": saved["encoder"], "pooler": saved["pooler"]}


def _merge(saved: PyTree, params: PyTree) -> PyTree:
    """The saved tree's shapes, but this model's shapes and shardings for what it shares."""
    return {**saved, "encoder": params["encoder"], "pooler": params["pooler"]}
