"""Rows as text to read: segments, labels, whole words, and what masking put where."""

import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from bert_jax.data.instances import DOES_NOT_FOLLOW, FOLLOWS, NO_LABEL
from bert_jax.data.masking import MaskedRow
from bert_jax.data.rows import Row
from bert_jax.text.tokenizer import Tokenizer

# By objective; the order is that of FOLLOWS, DOES_NOT_FOLLOW and NO_LABEL.
LABELS = {
    objective: dict(zip((FOLLOWS, DOES_NOT_FOLLOW, NO_LABEL), names, strict=True))
    for objective, names in {
        "mlm+nsp": ("follows", "random", "none"),
        "mlm+sop": ("follows", "swapped", "none"),
        "mlm": ("follows", "does not follow", "none"),
    }.items()
}


class Markup(NamedTuple):
    """What stands before and after each kind of text."""

    word: tuple[str, str]  # of several pieces
    label: tuple[str, str]
    mask: tuple[str, str]
    random: tuple[str, str]
    kept: tuple[str, str]

    @classmethod
    def choose(cls, *, is_terminal: bool) -> "Markup":
        """Colours on a terminal, unless NO_COLOR is set (https://no-color.org)."""
        return COLOURS if is_terminal and not os.environ.get("NO_COLOR") else PLAIN

    @property
    def legend(self) -> str:
        """One line that explains the signs."""
        shown = (
            f"{_put('[MASK]', self.mask)}, {_put('a random piece', self.random)}"
            f" or {_put('the same', self.kept)}"
        )
        return (
            f"{_put('word of several pieces', self.word)}"
            f"   {{{_put('masked', self.label)} → what stands there: {shown}}}"
        )


_NOTHING = ("", "")
PLAIN = Markup(("‹", "›"), _NOTHING, _NOTHING, _NOTHING, _NOTHING)
# ANSI: underlined, bold, yellow, red, green; each is switched off by itself.
COLOURS = Markup(
    ("\033[4m", "\033[24m"),
    ("\033[1m", "\033[22m"),
    ("\033[33m", "\033[39m"),
    ("\033[31m", "\033[39m"),
    ("\033[32m", "\033[39m"),
)


def render_row(
    row: Row, masked: MaskedRow, tokenizer: Tokenizer, objective: str, markup: Markup
) -> str:
    """A block of lines for every instance: its label and its segments."""
    is_masked = np.zeros(len(row.ids), np.bool_)
    is_masked[masked.positions] = True
    lines = []
    ends = np.cumsum(row.lengths).tolist()
    instances = zip(ends, row.lengths, row.a_lengths, row.next_labels.tolist(), strict=True)
    for number, (end, length, a_length, label) in enumerate(instances, 1):
        start, middle = end - int(length), end - int(length) + int(a_length)
        lines.append(
            f"  {number}. {LABELS[objective][label]}, {length} tokens,"
            f" {is_masked[start:end].sum()} masked"
        )
        # Without [CLS] and [SEP].
        for name, first, stop in (("A", start + 1, middle - 1), ("B", middle, end - 1)):
            if first < stop:
                segment = _segment(row, masked, is_masked, range(first, stop), tokenizer, markup)
                lines.append(f"     {name}  {segment}")
    return "\n".join(lines)


def _segment(
    row: Row,
    masked: MaskedRow,
    is_masked: np.ndarray,
    places: range,
    tokenizer: Tokenizer,
    markup: Markup,
) -> str:
    text = ""
    for word in _runs(places, lambda place: bool(row.is_word_start[place])):
        if word.start > places.start and _has_space(row, word.start, tokenizer):
            text += " "
        inner = ""
        for run in _runs(word, lambda place: bool(is_masked[place] != is_masked[place - 1])):
            if run.start > word.start and _has_space(row, run.start, tokenizer):
                inner += " "
            inner += _run(row, masked, bool(is_masked[run.start]), run, tokenizer, markup)
        text += _put(inner, markup.word) if len(word) > 1 else inner
    return text


def _run(
    row: Row, masked: MaskedRow, is_masked: bool, run: range, tokenizer: Tokenizer, markup: Markup
) -> str:
    """Neighbouring tokens of a word that are all masked or none."""
    original = tokenizer.decode(row.ids[run.start : run.stop].tolist())
    if not is_masked:
        return original
    shown = []
    for place in run:
        piece = int(masked.ids[place])
        if piece == tokenizer.special.mask:
            kind = markup.mask
        else:
            kind = markup.kept if piece == row.ids[place] else markup.random
        shown.append(_put(tokenizer.pieces[piece], kind))
    return f"{{{_put(original, markup.label)} → {' '.join(shown)}}}"


def _runs(places: range, begins: Callable[[int], bool]) -> Iterator[range]:
    """`places` cut before every place that `begins`; the first begins in any case."""
    first = places.start
    for place in places[1:]:
        if begins(place):
            yield range(first, place)
            first = place
    yield range(first, places.stop)


def _has_space(row: Row, place: int, tokenizer: Tokenizer) -> bool:
    """Whether the tokenizer writes a space before this token."""
    before, after = int(row.ids[place - 1]), int(row.ids[place])
    parts = tokenizer.decode([before]), tokenizer.decode([after])
    return len(tokenizer.decode([before, after])) > sum(map(len, parts))


def _put(text: str, sides: tuple[str, str]) -> str:
    return f"{sides[0]}{text}{sides[1]}"
