"""Where words begin: among the pieces of a sentence, for masking them whole, and in a text.

English says it with `##` or `▁`. Chinese does not say it at all: a segmenter has to, before
the text is forgotten.
"""

import itertools
import re
import unicodedata
from collections.abc import Iterator, Sequence

import numpy as np
import rjieba
from jaxtyping import Bool, Int

from bert_jax.text.pieces import CHINESE, Tokenizer, without_surrogates

CHINESE_CHARACTER = re.compile(f"[{CHINESE}]")
CHINESE_MARKS = "\u3001-\u3003\u3008-\u301f\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65"
UNCUT = re.compile(f"[{CHINESE}{CHINESE_MARKS}]|[^\\s{CHINESE}{CHINESE_MARKS}]+")
ABBREVIATION = re.compile(r"[A-Z]\.|(?:[^\W\d_]{1,2}\.){2,}")
CLITIC = re.compile("['\u2019](?:s|d|m|ll|re|ve)$", re.IGNORECASE)


class WordMarker:
    """Sentences to ids, each with whether it begins a word.

    `words` is "pieces" (a piece begins a word unless it says it goes on one) or "jieba"
    (and a piece that begins with a Chinese character does where a word of the segmenter
    does). The first piece of a sentence always begins a word.
    """

    def __init__(self, tokenizer: Tokenizer, words: str):
        self._tokenizer = tokenizer
        self._with_segmenter = words == "jieba"
        self._goes_on = np.array([*map(tokenizer.is_continuation, range(tokenizer.vocab_size))])

    def __call__(
        self, sentences: Sequence[str]
    ) -> Iterator[tuple[Int[np.ndarray, "n"], Bool[np.ndarray, "n"]]]:
        """(ids, is_word_start) of every sentence; both empty where no piece is left."""
        if not self._with_segmenter:
            for encoded in self._tokenizer.encode_batch(list(sentences)):
                ids = np.array(encoded, np.int32)
                yield ids, self._by_pieces(ids)
            return
        for sentence in sentences:
            encoding = self._tokenizer.encode(sentence)
            ids = np.array(encoding.ids, np.int32)
            is_start = self._by_pieces(ids)
            begins = set(word_starts(sentence))
            for place, (first, _) in enumerate(encoding.offsets):
                if CHINESE_CHARACTER.match(sentence, first):
                    is_start[place] = first in begins
                    # A ▁ of its own stands where its word does, and begins it.
                    begins.discard(first)
            is_start[:1] = True
            yield ids, is_start

    def _by_pieces(self, ids: Int[np.ndarray, "n"]) -> Bool[np.ndarray, "n"]:
        is_start = ~self._goes_on[ids]
        is_start[:1] = True
        return is_start


def word_starts(sentence: str) -> list[int]:
    """The character at which each word of the segmenter begins."""
    words = rjieba.cut(without_surrogates(sentence))
    return [0, *itertools.accumulate(map(len, words))][:-1]


def written_words(text: str) -> list[tuple[int, int]]:
    """Start and end of each word of a plain text, as corpora of tagged words have them.

    They are cut at white space; every Chinese character and mark is one, and so is every
    punctuation mark before or after a word. Marks within it stay ("New-York"), the last period
    of an abbreviation too ("U.N."); "'s" and the like are words of their own.
    """
    found: list[tuple[int, int]] = []
    for part in UNCUT.finditer(text):
        (start, end), after = part.span(), []
        while start < end and _is_punctuation(text[start]):
            found.append((start, start + 1))
            start += 1
        while start < end and _is_punctuation(text[end - 1]):
            if ABBREVIATION.fullmatch(text, start, end):
                break
            end -= 1
            after.append((end, end + 1))
        clitic = CLITIC.search(text, start, end)
        cut = clitic.start() if clitic else end
        words = [(start, cut), (cut, end)]
        found += [*(word for word in words if word[0] < word[1]), *reversed(after)]
    return found


def _is_punctuation(character: str) -> bool:
    # All of ASCII that is neither letter, digit nor control counts: $ and ^ are no P in Unicode.
    if character.isascii():
        return character.isprintable() and not character.isalnum() and character != " "
    return unicodedata.category(character).startswith("P")
