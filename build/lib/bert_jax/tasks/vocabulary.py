"""The model's table of pieces against the tokenizer's."""

import dataclasses

from bert_jax.config import ModelConfig
from bert_jax.errors import InputError
from bert_jax.text.tokenizer import Tokenizer


def fit_vocabulary(model: ModelConfig, tokenizer: Tokenizer) -> ModelConfig:
    """`model` with its vocab_size resolved: 0 becomes as many as the tokenizer has.

    A larger table is allowed. A smaller one is an InputError: an id past the end would
    read NaN.
    """
    if 0 < model.vocab_size < tokenizer.vocab_size:
        raise InputError(
            f"config.model.vocab_size={model.vocab_size} is less than the {tokenizer.vocab_size}"
            " pieces of the tokenizer: set it to 0 to take theirs."
        )
    return dataclasses.replace(model, vocab_size=model.vocab_size or tokenizer.vocab_size)
