"""Questions and contexts as a span model reads them: windows, and the answer in each.

As google-research/bert has it (run_squad.py), but with the tokenizer's offsets in place of
words parted by white space.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from bert_jax.data.encoding import PAIR_SPECIAL, Encoding, pair, windows
from bert_jax.text.tokenizer import Tokenizer

MAX_QUESTION = 64  # pieces, `max_query_length` there; of a longer question the rest is left out
CLS = 0  # where an answer is that the window does not hold

Piece = tuple[int, int]


class Context(NamedTuple):
    """The pieces of a text, and where they stand in it."""

    ids: list[int]
    offsets: Int[np.ndarray, "N 2"]  # in characters, [start, end)

    @classmethod
    def of(cls, text: str, tokenizer: Tokenizer) -> "Context":
        """Encoded, nothing added."""
        found = tokenizer.encode(text)
        return cls(found.ids, np.array(found.offsets, np.int32).reshape(-1, 2))


class SpanExample(NamedTuple):
    """`[CLS] question [SEP] a window of the context [SEP]`."""

    tokens: Encoding
    row: int  # the index of its question
    offsets: Int[np.ndarray, "N 2"]  # of the window's pieces, as in Context
    has_most: Bool[np.ndarray, "N"]  # no other window has more context around the piece
    start: int  # the first token of the answer and the last, or CLS twice
    end: int

    @property
    def length(self) -> int:
        """In tokens."""
        return len(self.tokens.ids)

    @property
    def first(self) -> int:
        """The token at which the window begins."""
        return self.tokens.second


def question_room(max_length: int) -> int:
    """How many pieces of a question are read."""
    return min(MAX_QUESTION, (max_length - PAIR_SPECIAL) // 2)


def span_examples(
    question: Sequence[int],
    context: Context,
    answer: tuple[int, int] | None,
    tokenizer: Tokenizer,
    *,
    row: int,
    max_length: int,
    overlap: int,
) -> list[SpanExample]:
    """The windows of a context; `answer` is where it stands, in characters.

    At `overlap` 0 the first window alone. A question takes no more than half of the room, and
    windows share no more than half of theirs.
    """
    question = question[: question_room(max_length)]
    room = max_length - PAIR_SPECIAL - len(question)
    parts = windows(len(context.ids), room, min(overlap, room // 2))
    parts = parts if overlap else parts[:1]
    pieces = None if answer is None else pieces_of(context.offsets, answer)
    examples = []
    for (start, end), has_most in zip(parts, most_context(parts), strict=True):
        tokens = pair(question, context.ids[start:end], tokenizer)
        first, last = CLS, CLS
        if pieces is not None and start <= pieces[0] and pieces[1] < end:
            first, last = (tokens.second + piece - start for piece in pieces)
        offsets = context.offsets[start:end]
        examples.append(SpanExample(tokens, row, offsets, has_most, first, last))
    return examples


def pieces_of(offsets: Int[np.ndarray, "N 2"], answer: tuple[int, int]) -> Piece | None:
    """The first and last piece that hold a part of it; None where the tokenizer left it out.

    An answer that begins or ends inside a piece grows to the whole piece. The original does
    the same by words: it takes the words that hold the answer, and of them the fewest pieces
    that spell it (`_improve_answer_span`), or all where none do.
    """
    start, end = offsets[:, 0], offsets[:, 1]
    held = np.flatnonzero((start < answer[1]) & (end > answer[0]) & (start < end))
    return (int(held[0]), int(held[-1])) if len(held) else None


def most_context(parts: Sequence[Piece]) -> list[Bool[np.ndarray, "N"]]:
    """For each window, which of its pieces have most context there.

    That is the fewer of the pieces to its left and to its right, and of equals the longer
    window's, then the first's (`_check_is_max_context`).
    """
    pieces = max(end for _, end in parts)
    best, owners = np.full(pieces, -1.0), np.full(pieces, -1)
    # Each window meets only those that share pieces with it: texts may be long.
    for number, (start, end) in enumerate(parts):
        right = np.arange(end - start)[::-1]
        context = np.minimum(right[::-1], right) + 0.01 * (end - start)
        is_better = context > best[start:end]
        best[start:end][is_better] = context[is_better]
        owners[start:end][is_better] = number
    return [owners[start:end] == number for number, (start, end) in enumerate(parts)]
