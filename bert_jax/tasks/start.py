"""What training begins with: a model that there is and its tokenizer, or a fresh one."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from jaxtyping import PyTree

from bert_jax import workdir as wd
from bert_jax.config import ModelConfig, PretrainConfig
from bert_jax.errors import InputError
from bert_jax.fields import build
from bert_jax.finetune_config import FinetuneConfig
from bert_jax.tasks import saved_model
from bert_jax.tasks.vocabulary import fit_vocabulary
from bert_jax.text import tokenizer as tokenizers
from bert_jax.text.tokenizer import Tokenizer
from bert_jax.training.checkpoint import has_checkpoint
from bert_jax.training.distributed import agreement, highest, is_main

# Fields of `model` that are this run's own; the others are the checkpoint's.
OWN_FIELDS = (
    *("dropout", "attention_dropout", "attention", "compute_dtype"),
    *("remat", "scan_layers"),
)


# Says that training begins with fresh parameters.
NONE = "none"


class Start(NamedTuple):
    """What fine-tuning begins with."""

    model: ModelConfig
    tokenizer: Tokenizer
    pretrained: saved_model.SavedModel | None


def find_start(config: FinetuneConfig) -> Start:
    """Raises InputError where the config asks for more than that model has."""
    if config.init_from == NONE:
        tokenizer = tokenizers.load(config.tokenizer)
        model = fit_vocabulary(config.model, tokenizer)
        pretrained = None
    else:
        pretrained = saved_model.load(config.init_from)
        tokenizer = pretrained.tokenizer
        model = _sized(config, pretrained.model)
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


def find_pretraining_start(
    config: PretrainConfig, workdir: str | Path | None
) -> tuple[PretrainConfig, saved_model.SavedModel | None]:
    """The config with the sizes of the model it names, and that model.

    Of a run that has begun the workdir has the sizes, and the model may be gone: None. One that
    is only planned has no workdir. All processes come here together. Raises InputError where the
    model is not there.
    """
    if config.init_from == NONE:
        return config, None
    directory = Path(workdir) if workdir is not None else None
    is_begun = highest(int(directory is not None and _is_begun(directory)))
    with agreement():
        if is_begun:
            sizes = build(ModelConfig, wd.read_config(directory)["model"], "config.model")
        else:
            saved_model.check_is_there(config.init_from)
    found = None if is_begun else saved_model.load(config.init_from)
    model = _sized(config, found.model if found else sizes)
    origin = str(Path(config.init_from).absolute())
    return dataclasses.replace(config, init_from=origin, model=model), found


def load_modules(
    found: saved_model.SavedModel,
    params: PyTree,
    names: tuple[str, ...],
    say: Callable[[str], None],
) -> PyTree:
    """`params` with the modules of these names that the saved model has, in its place.

    Says which of `params` stay as they are, and which of the saved model are left out.
    """
    there = found.param_shapes
    like = {name: params[name] for name in names if name in there}
    fresh = [saved_model.MODULES[name] for name in params if name not in like]
    left_out = [saved_model.MODULES[name] for name in there if name not in like]
    also = f"; fresh: {', '.join(fresh)}" if fresh else ""
    also += f"; left out: {', '.join(left_out)}" if left_out else ""
    say(f"begun from {found.directory}, step {found.step:,}{also}")
    return {**params, **found.modules(like)}


def _is_begun(directory: Path) -> bool:
    return has_checkpoint(directory) and (directory / wd.CONFIG).exists()


def _sized(config: FinetuneConfig | PretrainConfig, sizes: ModelConfig) -> ModelConfig:
    """`sizes` with the run's own fields, and says so: an override of others goes unused."""
    if is_main():
        print(f"model: as {config.init_from} has it, {sizes.layers} layers of width {sizes.width}")
    return dataclasses.replace(sizes, **{name: getattr(config.model, name) for name in OWN_FIELDS})
