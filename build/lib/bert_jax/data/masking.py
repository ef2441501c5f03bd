"""Which tokens to hide, and what stands in their place (reference: create_pretraining_data.py)."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from bert_jax.config import MaskingConfig
from bert_jax.data.rows import Row
from bert_jax.text.pieces import SpecialIds


class MaskedRow(NamedTuple):
    """The ids with replacements, and the masked places in rising order."""

    ids: Int[np.ndarray, "n"]
    positions: Int[np.ndarray, "p"]
    labels: Int[np.ndarray, "p"]  # the ids that stood there


class Words(NamedTuple):
    """The words of a row that may be masked, in order: where each lies and of which segment.

    A word whose front was cut off is what is left of it.
    """

    starts: Int[np.ndarray, "w"]
    ends: Int[np.ndarray, "w"]
    instances: Int[np.ndarray, "w"]  # from 0
    segments: Int[np.ndarray, "w"]  # counted over the whole row


def predictions(length: int, config: MaskingConfig) -> int:
    """How many tokens of an instance are masked; `length` counts [CLS] and [SEP].

    Rounds half to even, as the original's Python does: 10 -> 2, 30 -> 4, 50 -> 8.
    """
    return min(config.max_predictions, max(1, round(length * config.rate)))


def random_replacements(
    config: MaskingConfig, *, vocab_size: int, special: SpecialIds
) -> Int[np.ndarray, "r"]:
    """The ids a random replacement is drawn from."""
    ids = np.arange(vocab_size, dtype=np.int32)
    return ids if config.random_special else np.setdiff1d(ids, special)


def mask_row(
    row: Row,
    config: MaskingConfig,
    *,
    mask_id: int,
    replacements: Int[np.ndarray, "r"],
    rng: np.random.Generator,
) -> MaskedRow:
    """Masks every instance of a row by itself; [CLS] and [SEP] are never chosen.

    Of the chosen tokens `mask_share` become [MASK], `random_share` one of `replacements`,
    the rest stay. When the instances of a packed row ask for more than max_predictions
    together, they give up a random choice of what they asked for.
    """
    ends = np.cumsum(row.lengths)
    starts = ends - row.lengths
    is_maskable = np.ones(len(row.ids), np.bool_)
    for places in (starts, starts + row.a_lengths - 1, ends - 1):
        is_maskable[places] = False

    wanted = np.array([predictions(length, config) for length in row.lengths.tolist()])
    specials = 2 + (row.lengths > row.a_lengths)
    wanted = np.minimum(wanted, row.lengths - specials)
    if wanted.sum() > config.max_predictions:
        asked = np.repeat(np.arange(len(wanted)), wanted)
        kept = rng.choice(asked, config.max_predictions, replace=False)
        wanted = np.bincount(kept, minlength=len(wanted))
    positions = CHOOSE[config.unit](row, is_maskable, wanted, config, rng)

    ids = row.ids.copy()
    labels = row.ids[positions]
    kind = rng.random(len(positions))
    random_ids = replacements[rng.integers(len(replacements), size=len(positions))]
    replaced = np.where(kind < config.mask_share, mask_id, labels)
    is_random = (kind >= config.mask_share) & (kind < config.mask_share + config.random_share)
    ids[positions] = np.where(is_random, random_ids, replaced)
    return MaskedRow(ids, positions.astype(np.int32), labels)


def _choose_tokens(
    row: Row,
    is_maskable: Bool[np.ndarray, "n"],
    wanted: Int[np.ndarray, "S"],
    config: MaskingConfig,
    rng: np.random.Generator,
) -> Int[np.ndarray, "p"]:
    """Every token of an instance is as likely as any other."""
    del config
    draws = rng.random(len(row.ids))
    draws[~is_maskable] = 1.5  # after all others of the instance
    instance = np.repeat(np.arange(len(row.lengths)), row.lengths)
    order = np.argsort(2 * instance + draws)
    rank = np.arange(len(row.ids)) - np.repeat(np.cumsum(row.lengths) - row.lengths, row.lengths)
    return np.sort(order[rank < np.repeat(wanted, row.lengths)])


def _choose_words(
    row: Row,
    is_maskable: Bool[np.ndarray, "n"],
    wanted: Int[np.ndarray, "S"],
    config: MaskingConfig,
    rng: np.random.Generator,
) -> Int[np.ndarray, "p"]:
    """Whole words in random order; one that does not fit into what is left is skipped."""
    del config
    words = _words(row, is_maskable)
    left = wanted.tolist()
    starts, ends, instances = (column.tolist() for column in words[:3])
    chosen: list[int] = []
    for word in rng.permutation(len(starts)).tolist():
        size = ends[word] - starts[word]
        if size <= left[instances[word]]:
            left[instances[word]] -= size
            chosen += range(starts[word], ends[word])
            if not any(left):
                break
    return np.sort(np.array(chosen, np.int64))


def _choose_spans(
    row: Row,
    is_maskable: Bool[np.ndarray, "n"],
    wanted: Int[np.ndarray, "S"],
    config: MaskingConfig,
    rng: np.random.Generator,
) -> Int[np.ndarray, "p"]:
    """Runs of 1 to `span_words` words, one of n words with a chance as 1 / n (ALBERT).

    Every word in random order begins a run, which ends with its segment at the latest. A
    run that meets another, or does not fit into what is left, is skipped.
    """
    words = _words(row, is_maskable)
    chances = 1 / np.arange(1, config.span_words + 1)
    sizes = rng.choice(config.span_words, len(words.starts), p=chances / chances.sum()) + 1
    left = wanted.tolist()
    starts, ends, instances, segments = (column.tolist() for column in words)
    is_taken = [False] * len(starts)
    chosen: list[int] = []
    for first in rng.permutation(len(starts)).tolist():
        last = first
        while last + 1 - first < sizes[first] and last + 1 < len(starts):
            if segments[last + 1] != segments[first]:
                break
            last += 1
        size = ends[last] - starts[first]
        if size <= left[instances[first]] and not any(is_taken[first : last + 1]):
            left[instances[first]] -= size
            is_taken[first : last + 1] = [True] * (last + 1 - first)
            chosen += range(starts[first], ends[last])
            if not any(left):
                break
    return np.sort(np.array(chosen, np.int64))


def _words(row: Row, is_maskable: Bool[np.ndarray, "n"]) -> Words:
    # A special token is no word and ends one: what follows it begins one.
    is_start = is_maskable & row.is_word_start
    is_start[1:] |= is_maskable[1:] & ~is_maskable[:-1]
    starts = np.flatnonzero(is_start)
    is_end = np.append(is_start[1:] | ~is_maskable[1:], True) & is_maskable
    segments = np.cumsum(~is_maskable)[starts]
    instances = np.searchsorted(np.cumsum(row.lengths), starts, side="right")
    return Words(starts, np.flatnonzero(is_end) + 1, instances, segments)


CHOOSE: dict[str, Callable[..., Int[np.ndarray, "p"]]] = {
    "token": _choose_tokens,
    "word": _choose_words,
    "span": _choose_spans,
}
