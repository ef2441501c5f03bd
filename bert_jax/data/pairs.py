"""Sentence pairs by the original algorithm (google-research/bert, create_pretraining_data.py)."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

TokenIds = Sequence[int]
# A document is its sentences in order, a sentence its token ids.
TokenizedDocument = Sequence[TokenIds]

SPECIAL_TOKENS = 3  # [CLS] A [SEP] B [SEP]
RANDOM_NEXT_TRIES = 10


class Instance(NamedTuple):
    """Two segments without their special tokens."""

    a: TokenIds
    b: TokenIds
    is_random_next: bool


def document_instances(
    documents: Sequence[TokenizedDocument],
    index: int,
    *,
    length: int,
    short_probability: float,
    rng: np.random.Generator,
) -> Iterator[Instance]:
    """One pass over `documents[index]`, every sentence and document non-empty.

    Sentences are gathered until the target length; A is a random number of the first
    ones; B is the rest, or (half the time, and always for a single sentence) a stretch
    of another document. In that case the unused rest is put back and begins the next
    chunk. The ten draws for another document may all fall on this one: then B comes
    from it and still counts as random.
    """
    longest = length - SPECIAL_TOKENS
    target = longest
    if rng.random() < short_probability:
        target = int(rng.integers(2, longest + 1))
    document = documents[index]
    start = 0
    while start < len(document):
        end = start
        gathered = 0
        while end < len(document) and gathered < target:
            gathered += len(document[end])
            end += 1
        split = start + 1
        if end - start >= 2:
            split = start + int(rng.integers(1, end - start))
        a = _join(document[start:split])
        is_random_next = end - start == 1 or rng.random() < 0.5
        if is_random_next:
            b = _random_segment(documents, index, wanted=target - len(a), rng=rng)
            start = split
        else:
            b = _join(document[split:end])
            start = end
        yield Instance(*truncate_pair(a, b, longest, rng), is_random_next)


def truncate_pair(
    a: TokenIds, b: TokenIds, longest: int, rng: np.random.Generator
) -> tuple[TokenIds, TokenIds]:
    """Drops tokens of the longer side (B on a tie), front or back, until both fit."""
    excess = len(a) + len(b) - longest
    if excess <= 0:
        return a, b
    bounds = [[0, len(a)], [0, len(b)]]
    for from_front in rng.random(excess) < 0.5:
        longer = bounds[0 if bounds[0][1] - bounds[0][0] > bounds[1][1] - bounds[1][0] else 1]
        if from_front:
            longer[0] += 1
        else:
            longer[1] -= 1
    return a[slice(*bounds[0])], b[slice(*bounds[1])]


def _random_segment(
    documents: Sequence[TokenizedDocument], index: int, *, wanted: int, rng: np.random.Generator
) -> TokenIds:
    for _ in range(RANDOM_NEXT_TRIES):
        other = int(rng.integers(len(documents)))
        if other != index:
            break
    document = documents[other]
    tokens: list[int] = []
    for sentence in document[int(rng.integers(len(document))) :]:
        tokens.extend(sentence)
        if len(tokens) >= wanted:
            break
    return tokens


def _join(sentences: Sequence[TokenIds]) -> list[int]:
    return [token for sentence in sentences for token in sentence]
