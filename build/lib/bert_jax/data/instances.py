"""Documents to instances: sentence pairs by the original algorithm, ordered pairs, or plain text.

Reference for the pairs: google-research/bert, create_pretraining_data.py; for the order of
sentences: ALBERT (arXiv:1909.11942); for text alone: RoBERTa (arXiv:1907.11692).
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

PAIR_SPECIALS = 3  # [CLS] A [SEP] B [SEP]
SINGLE_SPECIALS = 2  # [CLS] A [SEP]
RANDOM_NEXT_TRIES = 10
NO_LABEL, FOLLOWS, DOES_NOT_FOLLOW = -1, 0, 1

# A stretch of a document, without a copy. What the numbers mean does not matter here;
# see `bert_jax.data.rows.mark`.
Tokens = Int[np.ndarray, "_"]


class TokenizedDocument(NamedTuple):
    """All tokens of a document, and where its sentences end; no sentence is empty."""

    tokens: Int[np.ndarray, "n"]
    ends: Int[np.ndarray, "sentences"]

    def stretch(self, first: int, stop: int) -> Tokens:
        """The tokens of the sentences [first, stop)."""
        return self.tokens[self.start(first) : self.start(stop)]

    def start(self, sentence: int) -> int:
        """The index of a sentence's first token."""
        return int(self.ends[sentence - 1]) if sentence else 0

    def gather(self, first: int, wanted: int) -> int:
        """Where to stop for `wanted` tokens from sentence `first` on: at least one sentence,
        at most the rest."""
        reached = np.searchsorted(self.ends, self.start(first) + max(wanted, 1))
        return min(int(reached) + 1, len(self.ends))


class Instance(NamedTuple):
    """One or two segments without their special tokens; `b` may be empty."""

    a: Tokens
    b: Tokens
    next_label: int  # NO_LABEL, FOLLOWS or DOES_NOT_FOLLOW


def next_sentence_instances(
    documents: Sequence[TokenizedDocument],
    index: int,
    *,
    length: int,
    short_probability: float,
    rng: np.random.Generator,
) -> Iterator[Instance]:
    """One pass over `documents[index]`.

    Sentences are gathered until the target length; A is a random number of the first
    ones; B is the rest, or (half the time, and always for a single sentence) a stretch
    of another document. In that case the unused rest is put back and begins the next
    chunk. The ten draws for another document may all fall on this one: then B comes
    from it and still counts as random.
    """
    longest = length - PAIR_SPECIALS
    target = _target(longest, short_probability, rng)
    document = documents[index]
    start = 0
    while start < len(document.ends):
        end = document.gather(start, target)
        split = _split(start, end, rng)
        a = document.stretch(start, split)
        is_random = end - start == 1 or rng.random() < 0.5
        if is_random:
            b = _random_segment(documents, index, wanted=target - len(a), rng=rng)
            start = split
        else:
            b = document.stretch(split, end)
            start = end
        label = DOES_NOT_FOLLOW if is_random else FOLLOWS
        yield Instance(*truncate_pair(a, b, longest, rng), label)


def sentence_order_instances(
    documents: Sequence[TokenizedDocument],
    index: int,
    *,
    length: int,
    short_probability: float,
    rng: np.random.Generator,
) -> Iterator[Instance]:
    """One pass over `documents[index]`: neighbours, half of them in the wrong order.

    A chunk of one sentence has no order and gives an instance without B and label, where
    ALBERT's code pairs it with another document.
    """
    longest = length - PAIR_SPECIALS
    target = _target(longest, short_probability, rng)
    document = documents[index]
    start = 0
    while start < len(document.ends):
        end = document.gather(start, target)
        if end - start == 1:
            a = document.stretch(start, end)
            yield Instance(
                *truncate_pair(a, a[:0], length - SINGLE_SPECIALS, rng), next_label=NO_LABEL
            )
        else:
            split = _split(start, end, rng)
            pair = document.stretch(start, split), document.stretch(split, end)
            is_swapped = rng.random() < 0.5
            a, b = truncate_pair(*(pair[::-1] if is_swapped else pair), longest, rng)
            yield Instance(a, b, DOES_NOT_FOLLOW if is_swapped else FOLLOWS)
        start = end


def text_instances(
    documents: Sequence[TokenizedDocument],
    index: int,
    *,
    length: int,
    short_probability: float,
    rng: np.random.Generator,
) -> Iterator[Instance]:
    """One pass over `documents[index]`: all of its tokens, cut wherever a row is full.

    The first cut of a document longer than the target is drawn, so that every pass cuts
    elsewhere.
    """
    target = _target(length - SINGLE_SPECIALS, short_probability, rng)
    tokens = documents[index].tokens
    cut = int(rng.integers(1, target + 1)) if len(tokens) > target else len(tokens)
    start = 0
    while start < len(tokens):
        yield Instance(tokens[start:cut], tokens[:0], NO_LABEL)
        start, cut = cut, cut + target


OBJECTIVES: dict[str, Callable[..., Iterator[Instance]]] = {
    "mlm+nsp": next_sentence_instances,
    "mlm+sop": sentence_order_instances,
    "mlm": text_instances,
}


def truncate_pair(
    a: Tokens, b: Tokens, longest: int, rng: np.random.Generator
) -> tuple[Tokens, Tokens]:
    """Drops tokens of the longer side (B on a tie), front or back, until both fit."""
    excess = len(a) + len(b) - longest
    if excess <= 0:
        return a, b
    from_front = rng.random(excess) < 0.5
    # The longer side gives until both are equal; from there on they take turns.
    alone = min(excess, abs(len(a) - len(b)))
    of_a, of_b = from_front[alone + 1 :: 2], from_front[alone::2]
    if len(a) > len(b):
        of_a = np.concatenate([from_front[:alone], of_a])
    else:
        of_b = np.concatenate([from_front[:alone], of_b])
    return _cut(a, of_a), _cut(b, of_b)


def _cut(tokens: Tokens, from_front: np.ndarray) -> Tokens:
    front = int(from_front.sum())
    return tokens[front : len(tokens) - (len(from_front) - front)]


def _target(longest: int, short_probability: float, rng: np.random.Generator) -> int:
    if rng.random() < short_probability:
        return int(rng.integers(2, longest + 1))
    return longest


def _split(start: int, end: int, rng: np.random.Generator) -> int:
    return start + int(rng.integers(1, end - start)) if end - start > 1 else end


def _random_segment(
    documents: Sequence[TokenizedDocument], index: int, *, wanted: int, rng: np.random.Generator
) -> Tokens:
    for _ in range(RANDOM_NEXT_TRIES):
        other = int(rng.integers(len(documents)))
        if other != index:
            break
    document = documents[other]
    first = int(rng.integers(len(document.ends)))
    return document.stretch(first, document.gather(first, wanted))
