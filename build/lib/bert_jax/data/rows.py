"""A row: one instance, or several packed one after the other, as it is stored."""

import bisect
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from bert_jax.data.instances import Instance


class Row(NamedTuple):
    """Token ids with special tokens and no padding, and where each instance ends."""

    ids: Int[np.ndarray, "n"]
    is_word_start: Bool[np.ndarray, "n"]
    lengths: Int[np.ndarray, "S"]  # of each instance; they add up to n
    a_lengths: Int[np.ndarray, "S"]  # of `[CLS] A [SEP]`; all of an instance without B
    next_labels: Int[np.ndarray, "S"]  # see `bert_jax.data.instances`


def mark(ids: Int[np.ndarray, "n"], is_word_start: Bool[np.ndarray, "n"]) -> Int[np.ndarray, "n"]:
    """Ids that carry whether they begin a word: how tokens travel from text to row."""
    return (2 * ids + is_word_start).astype(np.int32)


def make_row(instances: Sequence[Instance], *, cls: int, sep: int) -> Row:
    """Joins instances of marked tokens as `[CLS] A [SEP] B [SEP]`, one after the other."""
    cls_token, sep_token = np.array([[2 * cls + 1], [2 * sep + 1]], np.int32)
    parts: list[np.ndarray] = []
    lengths, a_lengths, labels = [], [], []
    for a, b, label in instances:
        parts += (cls_token, a, sep_token)
        a_lengths.append(len(a) + 2)
        lengths.append(len(a) + 2)
        if len(b):
            parts += (b, sep_token)
            lengths[-1] += len(b) + 1
        labels.append(label)
    marked = np.concatenate(parts)
    return Row(
        marked >> 1,
        (marked & 1).astype(np.bool_),
        np.array(lengths, np.int32),
        np.array(a_lengths, np.int32),
        np.array(labels, np.int8),
    )


def instance_length(instance: Instance) -> int:
    """Tokens of the instance in a row, special ones included."""
    return len(instance.a) + 2 + (len(instance.b) + 1 if len(instance.b) else 0)


def pack(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Best fit, longest first: indices of the items that share a row of `capacity`.

    An item goes into the row with the least room that still takes it; among equals,
    into the row opened last. No length may exceed the capacity.
    """
    rows: list[list[int]] = []
    rows_with_room: dict[int, list[int]] = {}
    rooms: list[int] = []  # the keys of rows_with_room, sorted
    for item in sorted(range(len(lengths)), key=lambda item: (-lengths[item], item)):
        at = bisect.bisect_left(rooms, lengths[item])
        if at == len(rooms):
            row, room = len(rows), capacity
            rows.append([])
        else:
            room = rooms[at]
            row = rows_with_room[room].pop()
            if not rows_with_room[room]:
                del rows_with_room[room], rooms[at]
        rows[row].append(item)
        room -= lengths[item]
        if room not in rows_with_room:
            rows_with_room[room] = []
            bisect.insort(rooms, room)
        rows_with_room[room].append(row)
    return rows
