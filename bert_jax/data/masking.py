"""Which tokens to hide, and what stands in their place (reference: create_pretraining_data.py)."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from bert_jax.config import MaskingConfig
from bert_jax.data.rows import Row


class MaskedRow(NamedTuple):
    """The ids with replacements, and the masked places in rising order."""

    ids: Int[np.ndarray, "n"]
    positions: Int[np.ndarray, "p"]
    labels: Int[np.ndarray, "p"]  # the ids that stood there


def predictions(length: int, config: MaskingConfig) -> int:
    """How many tokens of an instance are masked; `length` counts [CLS] and [SEP].

    Rounds half to even, as the original's Python does: 10 -> 2, 30 -> 4, 50 -> 8.
    """
    return min(config.max_predictions, max(1, round(length * config.rate)))


def mask_row(
    row: Row, config: MaskingConfig, *, vocab_size: int, mask_id: int, rng: np.random.Generator
) -> MaskedRow:
    """Masks every instance of a row by itself; [CLS] and [SEP] are never chosen.

    Of the chosen tokens `mask_share` become [MASK], `random_share` any piece of the
    vocabulary (special pieces included, as in the original), the rest stay. When the
    instances of a packed row ask for more than max_predictions together, a random
    choice of that many is kept.
    """
    ends = np.cumsum(row.lengths)
    starts = ends - row.lengths
    can_mask = np.ones(len(row.ids), np.bool_)
    can_mask[starts] = False
    can_mask[starts + row.a_lengths - 1] = False
    can_mask[ends - 1] = False

    draws = rng.random(len(row.ids))
    draws[~can_mask] = 2.0
    instance = np.repeat(np.arange(len(row.lengths)), row.lengths)
    order = np.lexsort((draws, instance))
    wanted = np.array([predictions(int(length), config) for length in row.lengths])
    wanted = np.minimum(wanted, row.lengths - 3)
    rank = np.arange(len(row.ids)) - starts[instance]  # sorted by instance, then by draw
    chosen = order[rank < wanted[instance]]
    if len(chosen) > config.max_predictions:
        chosen = rng.choice(chosen, config.max_predictions, replace=False)
    positions = np.sort(chosen)

    ids = row.ids.copy()
    labels = row.ids[positions]
    kind = rng.random(len(positions))
    random_ids = rng.integers(vocab_size, size=len(positions))
    replaced = np.where(kind < config.mask_share, mask_id, labels)
    is_random = (kind >= config.mask_share) & (kind < config.mask_share + config.random_share)
    ids[positions] = np.where(is_random, random_ids, replaced)
    return MaskedRow(ids, positions.astype(np.int32), labels)
