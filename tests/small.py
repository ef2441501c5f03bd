"""Small configs for the tests: those of `configs/pretrain_base.py:tiny`, changed."""

from typing import Any

from bert_jax.config import ModelConfig, OptimizerConfig
from bert_jax.fields import build
from bert_jax.text import wordpiece
from configs import pretrain_base

PIECES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghij", "##a", "##b", "好", "差")


def tokenizer() -> wordpiece.WordPiece:
    """Of PIECES: single letters, two of which go on a word, and two Chinese characters."""
    settings = wordpiece.Settings(
        lowercase=True,
        strip_accents=True,
        chinese_characters=True,
        chinese_words=False,
        max_word_characters=100,
    )
    return wordpiece.WordPiece(PIECES, settings, "small")


def model_config(**changes: Any) -> ModelConfig:
    """Two layers of width 32 in float32, with dropout, changed by field."""
    return build(ModelConfig, pretrain_base.get_config("tiny").model.to_dict() | changes)


def optimizer_config(**changes: Any) -> OptimizerConfig:
    """Adam at 1e-3 with warm-up, linear decay and clipping, changed by field."""
    return build(OptimizerConfig, pretrain_base.get_config("tiny").optimizer.to_dict() | changes)
