"""Logits of first and last tokens to answers in the words of the text."""

import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from bert_jax.data.spans import CLS, SpanExample
from bert_jax.text.pieces import CHINESE
from bert_jax.text.words import CHINESE_CHARACTER

# As run_squad.py of google-research/bert has them.
MAX_ANSWER = 30  # tokens, `max_answer_length`
# Of a Chinese context, where a token is a character, as the public baselines of CMRC2018 have it.
MAX_CHINESE_ANSWER = 50
N_BEST = 20  # `n_best_size`
NONE_MARGIN = 0.0  # `null_score_diff_threshold`: how much likelier than the best answer
OTHER_WORD = re.compile(f"[^\\W{CHINESE}]+")


class Span(NamedTuple):
    """A part of the context; `text` is "" and the place 0 to 0 for there being no answer."""

    text: str
    start: int  # in characters, [start, end)
    end: int
    score: float  # the sum of both logits


class Candidates(NamedTuple):
    """What may be the answer to a question."""

    spans: tuple[Span, ...]  # the best first, no text twice, N_BEST at most
    none: float  # the score of there being none

    @property
    def margin(self) -> float:
        """By how much none is likelier than the best: the original's score difference."""
        return self.none - self.spans[0].score if self.spans else 0.0

    def ranked(self, *, may_be_none: bool) -> list[Span]:
        """The best first, with the empty one among them where there may be no answer."""
        found = [*self.spans, *[self._empty][: may_be_none or not self.spans]]
        return sorted(found, key=lambda span: -span.score)

    def best(self, *, may_be_none: bool) -> Span:
        """The first of `ranked`."""
        if self.spans and not (may_be_none and self.spans[0].score < self._empty.score):
            return self.spans[0]
        return self._empty

    @property
    def _empty(self) -> Span:
        return Span("", 0, 0, self.none - NONE_MARGIN)


def decode(
    context: str, examples: Sequence[SpanExample], logits: Sequence[Float[np.ndarray, "_T 2"]]
) -> Candidates:
    """The best spans over all windows of a context.

    A span begins at a token that has most context in its window, ends in the same window, and
    has `longest_answer` tokens at most. Every such pair is looked at, where the original combines
    the N_BEST first tokens with the N_BEST last. No answer is as likely as the window says
    that says it least, by its [CLS].
    """
    longest = longest_answer(context)
    found = [
        span
        for example, both in zip(examples, logits, strict=True)
        for span in _best_of_window(context, example, both, longest)
    ]
    spans: dict[str, Span] = {}
    for span in sorted(found, key=lambda span: (-span.score, span.start, span.end)):
        if span.text:
            spans.setdefault(span.text, span)
    return Candidates(
        tuple(spans.values())[:N_BEST], min(float(both[CLS].sum()) for both in logits)
    )


def longest_answer(context: str) -> int:
    """In tokens. A context is Chinese if it has more Chinese characters than other words."""
    is_chinese = len(CHINESE_CHARACTER.findall(context)) > len(OTHER_WORD.findall(context))
    return MAX_CHINESE_ANSWER if is_chinese else MAX_ANSWER


def _best_of_window(
    context: str, example: SpanExample, logits: Float[np.ndarray, "T 2"], longest: int
) -> list[Span]:
    count = len(example.offsets)
    if not count:
        return []
    of_context = logits[example.first : example.first + count].astype(np.float64)
    starts = np.where(example.has_most, of_context[:, 0], -np.inf)
    ends = np.concatenate([of_context[:, 1], np.full(longest - 1, -np.inf)])
    # For each first token, the last tokens from itself on.
    scores = starts[:, None] + np.lib.stride_tricks.sliding_window_view(ends, longest)
    flat = scores.ravel()
    best = np.argpartition(-flat, N_BEST)[:N_BEST]
    spans = []
    for place in best[np.isfinite(flat[best])]:
        first, more = divmod(int(place), longest)
        start, end = int(example.offsets[first, 0]), int(example.offsets[first + more, 1])
        spans.append(_span(context, start, end, float(flat[place])))
    return spans


def _span(context: str, start: int, end: int, score: float) -> Span:
    # Accents that stand apart are no part of a piece where they are stripped.
    while start < end < len(context) and unicodedata.combining(context[end]):
        end += 1
    while start < end and context[end - 1].isspace():
        end -= 1
    return Span(context[start:end], start, end, score)
