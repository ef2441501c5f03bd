"""What of the model a fine-tuning moves, and how far: regexes of parameter paths."""

from bert_jax.finetune_config import FinetuneConfig
from bert_jax.training.optimizer import Moves

ENCODER = "^encoder/"


def moves(config: FinetuneConfig, layers: int) -> Moves:
    """As the config has it, for a model of so many layers."""
    return Moves(
        frozen=_frozen(config),
        rates=_rates(config.layer_decay, layers) if config.layer_decay != 1 else (),
        held=ENCODER if config.head_steps else "",
        held_updates=config.head_steps,
    )


def _frozen(config: FinetuneConfig) -> str:
    parts = ["embeddings"] if config.freeze_embeddings else []
    parts += [f"layer_{layer}" for layer in range(config.freeze_layers)]
    return rf"^encoder/({'|'.join(parts)})/" if parts else ""


def _rates(decay: float, layers: int) -> tuple[tuple[str, float], ...]:
    """The decay to the power of the layers above; head and pooler, on top of all, have none."""
    above = [(f"{ENCODER}layer_{n}/", decay ** (layers - 1 - n)) for n in range(layers)]
    return ((f"{ENCODER}embeddings/", decay**layers), *above)
