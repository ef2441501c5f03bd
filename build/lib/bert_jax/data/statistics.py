"""What a prepared dataset holds, in numbers: from its manifest, its piece counts and its rows."""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from bert_jax.data.masking import MaskedRow
from bert_jax.data.rows import Row
from bert_jax.text.pieces import SpecialIds

COMMON = 5  # a piece that occurs as often as this is learnt


class Sample(NamedTuple):
    """Some rows of a split, with masks drawn once."""

    lengths: Int[np.ndarray, "i"]  # of every instance, special tokens included
    masks: Int[np.ndarray, "i"]  # of every instance
    instances: Int[np.ndarray, "r"]  # of every row


class SplitStatistics(NamedTuple):
    """A split in numbers. All are exact but the last four, which are of the sampled rows."""

    documents: int
    sentences: int
    words: int
    tokens: int
    characters_per_token: float
    unknown_share: float  # of the tokens, [UNK]
    instances: int
    labelled: int  # of these, with a label that says whether B follows
    not_following_share: float | None  # of the labelled ones; None without any
    rows: int
    instances_per_row: float
    filled_share: float  # of the places in a row
    unpacked_filled_share: float  # the same with every instance in a row of its own
    tokens_per_padding: float | None  # None without padding
    unpacked_tokens_per_padding: float | None
    sampled_rows: int
    instance_length: float  # the mean
    instance_length_percentiles: tuple[float, float, float]  # 5, 50 and 95
    masks_per_instance: float


class VocabularyStatistics(NamedTuple):
    """How much of a vocabulary, special pieces aside, the training documents use."""

    pieces: int
    occurring_share: float
    common_share: float  # occurs COMMON times or more


def spread(total: int, wanted: int) -> Int[np.ndarray, "n"]:
    """Up to `wanted` of the indices below `total`, evenly spaced."""
    return np.arange(min(total, wanted)) * total // max(min(total, wanted), 1)


def sample_rows(rows: Iterable[Row], draw: Callable[[Row], MaskedRow]) -> Sample:
    """What the rows hold; `draw` masks one."""
    lengths, masks, instances = [], [], []
    for row in rows:
        instance_of = np.searchsorted(np.cumsum(row.lengths), draw(row).positions, side="right")
        lengths.append(row.lengths)
        masks.append(np.bincount(instance_of, minlength=len(row.lengths)))
        instances.append(len(row.lengths))
    return Sample(np.concatenate(lengths), np.concatenate(masks), np.array(instances))


def split_statistics(counts: Mapping[str, int], length: int, sample: Sample) -> SplitStatistics:
    """`counts` are those of the manifest, and `length` the places of a row."""
    tokens, rows, instances = (counts[name] for name in ("row_tokens", "rows", "instances"))
    return SplitStatistics(
        documents=counts["documents"],
        sentences=counts["sentences"],
        words=counts["words"],
        tokens=counts["tokens"],
        characters_per_token=counts["characters"] / counts["tokens"],
        unknown_share=counts["unknown"] / counts["tokens"],
        instances=instances,
        labelled=counts["labelled"],
        not_following_share=_ratio(counts["not_following"], counts["labelled"]),
        rows=rows,
        instances_per_row=instances / rows,
        filled_share=tokens / (rows * length),
        unpacked_filled_share=tokens / (instances * length),
        tokens_per_padding=_ratio(tokens, rows * length - tokens),
        unpacked_tokens_per_padding=_ratio(tokens, instances * length - tokens),
        sampled_rows=len(sample.instances),
        instance_length=float(sample.lengths.mean()),
        instance_length_percentiles=tuple(np.percentile(sample.lengths, (5, 50, 95)).tolist()),
        masks_per_instance=float(sample.masks.mean()),
    )


def vocabulary_statistics(
    token_counts: Int[np.ndarray, "V"], special: SpecialIds
) -> VocabularyStatistics:
    """From how often the documents hold each piece."""
    counts = np.delete(token_counts, special)
    return VocabularyStatistics(
        pieces=len(counts),
        occurring_share=float((counts > 0).mean()),
        common_share=float((counts >= COMMON).mean()),
    )


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
