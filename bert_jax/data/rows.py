"""A row: one instance, or several packed one after the other, as it is stored."""

import bisect
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from bert_jax.data.pairs import Instance


class Row(NamedTuple):
    """Token ids with special tokens and no padding, and where each instance ends."""

    ids: Int[np.ndarray, "n"]
    lengths: Int[np.ndarray, "S"]  # of each instance; they add up to n
    a_lengths: Int[np.ndarray, "S"]  # of `[CLS] A [SEP]`
    is_random_next: Bool[np.ndarray, "S"]


def make_row(instances: Sequence[Instance], *, cls: int, sep: int) -> Row:
    """Joins instances as `[CLS] A [SEP] B [SEP]`, one after the other."""
    ids: list[int] = []
    lengths, a_lengths = [], []
    for instance in instances:
        ids += [cls, *instance.a, sep, *instance.b, sep]
        a_lengths.append(len(instance.a) + 2)
        lengths.append(len(instance.a) + len(instance.b) + 3)
    return Row(
        np.array(ids, np.int32),
        np.array(lengths, np.int32),
        np.array(a_lengths, np.int32),
        np.array([instance.is_random_next for instance in instances], np.bool_),
    )


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
