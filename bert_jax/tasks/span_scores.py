"""Exact match and F1 of answers, as the scripts of SQuAD and of CMRC2018 define them."""

import functools
import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from bert_jax.tasks.span_decoding import Candidates

NAMES = ("exact_match", "f1")
ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)
# As cmrc2018_evaluate.py lists it. A point or a comma of ASCII is not in there.
CMRC_PUNCTUATION = frozenset("-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』")
CMRC_CHINESE = re.compile("[\u4e00-\u9fa5]")
# Words between Chinese. The script has NLTK's, which also part "don't"; numbers stay whole.
WORDS = re.compile(r"\w+(?:[.,']\w+)*|[^\w\s]")


class Rules(NamedTuple):
    """What makes two answers the same, wholly or in part."""

    plain: Callable[[str], str]  # equal for an exact match
    parts: Callable[[str], list[str]]
    shared: Callable[[list[str], list[str]], int]  # how many parts two answers share


def squad_plain(text: str) -> str:
    """Lower case without punctuation, articles and needless white space."""
    return " ".join(ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split())


def squad_parts(text: str) -> list[str]:
    """The words of `squad_plain`."""
    return squad_plain(text).split()


def words_shared(one: list[str], other: list[str]) -> int:
    """In whatever order."""
    return (Counter(one) & Counter(other)).total()


def cmrc_plain(text: str) -> str:
    """Lower case without punctuation."""
    return "".join(c for c in text.lower().strip() if c not in CMRC_PUNCTUATION)


def cmrc_parts(text: str) -> list[str]:
    """The Chinese characters and the words between them."""
    spaced = CMRC_CHINESE.sub(lambda found: f" {found[0]} ", cmrc_plain(text))
    return [word for part in spaced.split() for word in WORDS.findall(part)]


def longest_shared(one: list[str], other: list[str]) -> int:
    """The length of the longest run that both have."""
    longest, before = 0, [0] * (len(other) + 1)
    for part in one:
        now = [0]
        for length, candidate in zip(before, other, strict=False):
            now.append(length + 1 if part == candidate else 0)
        longest, before = max(longest, *now), now
    return longest


RULES = {
    "squad": Rules(squad_plain, squad_parts, words_shared),
    "cmrc": Rules(cmrc_plain, cmrc_parts, longest_shared),
}


# The bootstrap asks for every pair a hundred times.
@functools.lru_cache(maxsize=2**18)
def score(
    text: str, right: tuple[str, ...], rules: Rules, *, with_none: bool
) -> tuple[float, float]:
    """Exact match and F1 with the nearest of the right answers.

    `with_none`: as in SQuAD 2.0, where "" is right if there is no other, and answers of
    nothing but articles and punctuation do not count.
    """
    if with_none:
        right = tuple(one for one in right if rules.plain(one)) or ("",)
    exact = max(float(rules.plain(text) == rules.plain(one)) for one in right)
    return exact, max(_f1(rules, text, one, with_none) for one in right)


def _f1(rules: Rules, text: str, right: str, with_none: bool) -> float:
    one, other = rules.parts(text), rules.parts(right)
    if with_none and not (one and other):
        return float(one == other)
    shared = rules.shared(one, other)
    return 2 * shared / (len(one) + len(other)) if shared else 0.0


def of_answers(
    right: Sequence[tuple[str, ...]], answers: Sequence[Candidates], rules: Rules
) -> dict[str, float]:
    """The metrics, from 0 to 1. Where some questions have no right answer, those of SQuAD 2.0."""
    with_none = not all(right)
    texts = [answer.best(may_be_none=with_none).text for answer in answers]
    pairs = zip(texts, right, strict=True)
    scores = np.array([score(text, one, rules, with_none=with_none) for text, one in pairs])
    metrics = dict(zip(NAMES, scores.mean(axis=0).tolist(), strict=True))
    return metrics | _of_none(scores, right, texts, answers) if with_none else metrics


def best_threshold(
    gains: Float[np.ndarray, "N"], margins: Sequence[float], unanswerable: int
) -> tuple[float, float]:
    """The best mean where questions up to some margin get their answer and the others none, and
    that margin; 0 where none is better than not to answer at all.

    `gains`: what answering a question adds. As `find_best_thresh` of SQuAD 2.0's script has it.
    """
    order = np.argsort(margins, kind="stable")
    totals = unanswerable + np.concatenate([[0.0], np.cumsum(gains[order])])
    best = int(totals.argmax())
    threshold = float(margins[order[best - 1]]) if best else 0.0
    return float(totals[best]) / len(gains), threshold


def _of_none(
    scores: Float[np.ndarray, "N 2"],
    right: Sequence[tuple[str, ...]],
    texts: Sequence[str],
    answers: Sequence[Candidates],
) -> dict[str, float]:
    """Questions with and without an answer apart, and the best thresholds on the margin.

    As the script prints them for the texts and margins that are written for it: a question whose
    text is "" has no answer at any threshold.
    """
    has_answer = np.array([bool(one) for one in right])
    metrics = {"unanswerable_accuracy": float(scores[~has_answer, 0].mean())}
    if has_answer.any():
        means = scores[has_answer].mean(axis=0).tolist()
        metrics |= {f"answerable_{name}": v for name, v in zip(NAMES, means, strict=True)}
    says = np.array([bool(text) for text in texts], np.float64)
    margins = [answer.margin for answer in answers]
    for name, values in zip(NAMES, scores.T, strict=True):
        gains = np.where(has_answer, values, -says)
        best, threshold = best_threshold(gains, margins, int((~has_answer).sum()))
        metrics |= {f"best_{name}": best, f"best_{name}_threshold": threshold}
    return metrics
