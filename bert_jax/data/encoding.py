"""Texts as the encoder reads them: special pieces, cuts and windows, padded or packed rows."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from bert_jax.arrays import PackedTokens, Tokens
from bert_jax.data.rows import pack
from bert_jax.errors import InputError
from bert_jax.text.tokenizer import Tokenizer

SMALLEST_BUCKET = 16
SINGLE_SPECIAL, PAIR_SPECIAL = 2, 3  # pieces that are added to a text, to a pair


class Encoding(NamedTuple):
    """`[CLS] A [SEP]`, or `[CLS] A [SEP] B [SEP]`."""

    ids: np.ndarray
    second: int  # where B begins, its segment is 1; the length where there is no B


def single(ids: Sequence[int], tokenizer: Tokenizer) -> Encoding:
    """`[CLS] ids [SEP]`."""
    special = tokenizer.special
    row = np.array([special.cls, *ids, special.sep], np.int32)
    return Encoding(row, len(row))


def pair(a: Sequence[int], b: Sequence[int], tokenizer: Tokenizer) -> Encoding:
    """`[CLS] a [SEP] b [SEP]`."""
    special = tokenizer.special
    row = np.array([special.cls, *a, special.sep, *b, special.sep], np.int32)
    return Encoding(row, len(a) + 2)


def cut_pair(a: int, b: int, room: int) -> tuple[int, int]:
    """How many pieces of each side stay where one after the other is dropped from the end of
    the longer until they fit; a tie drops from B.

    As `_truncate_seq_pair` of google-research/bert (run_classifier.py).
    """
    if a + b <= room:
        return a, b
    kept = min(b, max(room // 2, room - a))
    return room - kept, kept


def windows(length: int, room: int, overlap: int) -> list[tuple[int, int]]:
    """Where parts of at most `room` pieces begin and end, of which neighbours share `overlap`.

    Raises InputError where a window would hold nothing new.
    """
    if overlap >= room:
        raise InputError(
            f"windows with room for {room} tokens cannot share {overlap}: lower"
            " config.window_overlap, or raise config.max_length."
        )
    found = [(0, min(room, length))]
    while found[-1][1] < length:
        start = found[-1][1] - overlap
        found.append((start, min(start + room, length)))
    return found


def whole_lengths(
    parts: Iterable[tuple[int, int]], cut: Mapping[int, int], rows: int, overlap: int
) -> Int[np.ndarray, "N"]:
    """Tokens of every row before anything is cut or put into windows, special ones included.

    `parts`: the row and the tokens of each window, in order; `cut`: the tokens of rows that were.
    """
    found = np.zeros(rows, np.int64)
    for row, length in parts:
        # Of a further window only what the one before has not.
        found[row] += length - (SINGLE_SPECIAL + overlap if found[row] else 0)
    for row, tokens in cut.items():
        found[row] = tokens
    return found


def bucket(length: int, max_length: int) -> int:
    """The padded length: a power of two from SMALLEST_BUCKET, or max_length."""
    size = SMALLEST_BUCKET
    while size < length:
        size *= 2
    return min(size, max_length)


def pad_tokens(encodings: Sequence[Encoding], rows: int, length: int, pad: int) -> Tokens:
    """One a row, padded to `length` tokens and to `rows` rows."""
    ids = np.full((rows, length), pad, np.int32)
    segments = np.zeros((rows, length), np.int32)
    instances = np.zeros((rows, length), np.int32)
    for row, encoding in enumerate(encodings):
        ids[row, : len(encoding.ids)] = encoding.ids
        segments[row, encoding.second : len(encoding.ids)] = 1
        instances[row, : len(encoding.ids)] = 1
    positions = np.broadcast_to(np.arange(length, dtype=np.int32), ids.shape) * instances
    return Tokens(ids, segments, positions, instances)


def pack_tokens(tokens: Tokens, *, rows: int, pad: int) -> PackedTokens:
    """The texts of rows that hold one each, in `rows` rows of that length, as best fit finds.

    Raises ValueError for rows that hold anything but one text and padding after it, and where the
    texts need more than `rows`.
    """
    count, length = tokens.ids.shape
    is_token = tokens.is_token
    if (np.diff(tokens.instances, axis=1) > 0).any() or (tokens.instances > 1).any():
        raise ValueError("a batch has one text in each row, and padding after it only")
    lengths = is_token.sum(axis=1)
    texts = np.flatnonzero(lengths)  # others fill up the batch
    packed = pack(lengths[texts].tolist(), length)
    if len(packed) > rows:
        raise ValueError(f"the texts need {len(packed)} rows of {length} tokens, not {rows}")
    starts, numbers = np.zeros((2, count, 1), np.int32)
    for row, shared in enumerate(packed):
        start = row * length
        for number, text in enumerate(texts[shared], start=1):
            starts[text], numbers[text] = start, number
            start += lengths[text]
    places = np.where(is_token, starts + np.arange(length, dtype=np.int32), -1)

    def packed_rows(of_texts: np.ndarray, padding: int) -> np.ndarray:
        flat = np.full(rows * length, padding, np.int32)
        flat[places[is_token]] = np.broadcast_to(of_texts, is_token.shape)[is_token]
        return flat.reshape(rows, length)

    filled = Tokens(
        packed_rows(tokens.ids, pad),
        packed_rows(tokens.segments, 0),
        packed_rows(tokens.positions, 0),
        packed_rows(numbers, 0),
    )
    return PackedTokens(filled, places)
