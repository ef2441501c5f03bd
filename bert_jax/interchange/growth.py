"""More rows for the tables of a model: words added to its vocabulary, more positions."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from bert_jax.config import ModelConfig
from bert_jax.errors import InputError
from bert_jax.interchange.names import Params

TOKENS, POSITIONS = "encoder/embeddings/token", "encoder/embeddings/position"
MLM_BIAS = "mlm/bias"


def add_rows(
    params: Params, model: ModelConfig, pieces: Sequence[Sequence[int]], *, first: int
) -> tuple[Params, ModelConfig]:
    """A row of the token table for each new piece, from id `first` on: the mean of the rows of
    its old `pieces`, and so for the MLM head's bias.

    Rows of the table beyond its vocabulary are used up before it grows.
    """
    rows = max(model.vocab_size, first + len(pieces))
    grown = dict(params)
    for path in (TOKENS, MLM_BIAS):
        if path not in params:
            continue
        old = params[path]
        new = np.zeros((rows, *old.shape[1:]), np.float32)
        new[: len(old)] = old
        for row, ids in enumerate(pieces, first):
            new[row] = old[list(ids)].mean(axis=0, dtype=np.float64)
        grown[path] = new
    return grown, dataclasses.replace(model, vocab_size=rows)


def add_positions(params: Params, model: ModelConfig, positions: int) -> tuple[Params, ModelConfig]:
    """A longer position table: the old one from its beginning again, as often as it takes.

    As Longformer does (arXiv:2004.05150, section 5): neighbours stand to each other as they
    did, but for where a copy begins. Raises InputError where that is no growth.
    """
    if positions <= model.positions:
        raise InputError(
            f"--positions={positions} is not more than the {model.positions} the model has: name"
            " a larger number, or leave it away."
        )
    old = params[POSITIONS]
    repeated = old[np.arange(positions) % len(old)]
    return params | {POSITIONS: repeated}, dataclasses.replace(model, positions=positions)
