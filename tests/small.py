"""Small configs for the tests: those of `configs/pretrain_base.py:tiny`, changed."""

from typing import Any

from bert_jax.config import ModelConfig, OptimizerConfig
from bert_jax.fields import build
from configs import pretrain_base


def model_config(**changes: Any) -> ModelConfig:
    """Two layers of width 32 in float32, with dropout, changed by field."""
    return build(ModelConfig, pretrain_base.get_config("tiny").model.to_dict() | changes)


def optimizer_config(**changes: Any) -> OptimizerConfig:
    """Adam at 1e-3 with warm-up, linear decay and clipping, changed by field."""
    return build(OptimizerConfig, pretrain_base.get_config("tiny").optimizer.to_dict() | changes)
