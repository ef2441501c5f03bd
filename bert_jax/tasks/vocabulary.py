"""The model's table of pieces against the tokenizer's, and one tokenizer against another."""

import dataclasses
from pathlib import Path

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


def check_same_vocabulary(
    data: Path, tokenizer: Tokenizer, wanted: Tokenizer, *, whose: str, mend: str
) -> None:
    """Raises InputError where the rows in `data` are not such as `wanted` makes: where their ids
    have other pieces, or text becomes words by other settings."""
    if tokenizer.fingerprint == wanted.fingerprint:
        return
    is_other = tokenizer.pieces != wanted.pieces
    what = "another vocabulary" if is_other else "the same vocabulary by other settings"
    raise InputError(f"{data} was prepared with {what} than {whose}: {mend}.")
