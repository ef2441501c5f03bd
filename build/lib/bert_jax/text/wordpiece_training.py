"""A WordPiece vocabulary from word counts, the same one every time.

Merges the most frequent pair of pieces first, as Hugging Face trains WordPiece (the original
trainer was never released). Their trainer breaks ties by the order of a hash table, because
it numbers the `##` pieces as it meets them. Here a continuing character is handed to it as
another character, one of private use, so that the alphabet alone sets the numbers.
"""

import re
from collections import Counter
from collections.abc import Iterator

import tokenizers
from tokenizers import models, pre_tokenizers, trainers

from bert_jax.errors import InputError
from bert_jax.text.pieces import CHINESE, SPECIAL_PIECES

MIN_FREQUENCY = 2  # of a pair that is merged
WANTED_COVERAGE = 0.9995  # share of the characters in the text that the alphabet holds
LEAST_COVERAGE = 0.98  # with less, too much of the text would be [UNK]
PRIVATE_USE = 0xF0000  # the first of 131,072 characters that no cleaned text holds

CHINESE_START = re.compile(f"[{CHINESE}]")


def train_pieces(words: Counter[str], room: int) -> list[str]:
    """At most `room` pieces: the alphabet by code point, then merges in their order.

    A word of Chinese has no continuing characters. Raises InputError if the characters do
    not fit.
    """
    continuing = sorted({c for word in words if not _is_chinese(word) for c in word[1:]})
    hidden = {ord(c): chr(PRIVATE_USE + index) for index, c in enumerate(continuing)}
    symbols = Counter(dict.fromkeys(continuing, 0))  # each may start a word in other text
    counts: Counter[str] = Counter()
    for word, count in words.items():
        hid = word if _is_chinese(word) else word[0] + word[1:].translate(hidden)
        counts[hid] = count
        for symbol in hid:
            symbols[symbol] += count
    alphabet = _alphabet(symbols, room)
    shown = {ord(value): chr(key) for key, value in hidden.items()}
    merged = _merge(_inside(counts, alphabet), alphabet, room)
    return [f"##{p.translate(shown)}" if ord(p[0]) in shown else p.translate(shown) for p in merged]


def _is_chinese(word: str) -> bool:
    return CHINESE_START.match(word) is not None


def _alphabet(symbols: Counter[str], room: int) -> list[str]:
    """The most frequent symbols: at most half the room, unless coverage needs more."""
    ranked = sorted(symbols, key=lambda symbol: (-symbols[symbol], symbol))
    total = symbols.total()

    def needed(share: float) -> int:
        covered = 0
        for size, symbol in enumerate(ranked, 1):
            covered += symbols[symbol]
            if covered >= share * total:
                return size
        return len(ranked)

    if needed(LEAST_COVERAGE) > room:
        raise InputError(
            f"config.tokenizer.vocab_size={room + len(SPECIAL_PIECES)} is too small for the"
            f" {len(ranked)} characters of the text; use at least"
            f" {needed(WANTED_COVERAGE) + len(SPECIAL_PIECES)}."
        )
    return sorted(ranked[: min(room, max(room // 2, needed(WANTED_COVERAGE)))])


def _inside(counts: Counter[str], alphabet: list[str]) -> Counter[str]:
    """What is left of the words when only the alphabet can be told apart from [UNK]."""
    known = set(alphabet)
    kept: Counter[str] = Counter()
    for word, count in counts.items():
        if known.issuperset(word):
            kept[word] += count
        elif _is_chinese(word):  # an unknown character parts a run; other words are lost whole
            for part in "".join(c if c in known else " " for c in word).split():
                kept[part] += count
    return kept


def _merge(counts: Counter[str], alphabet: list[str], room: int) -> list[str]:
    engine = tokenizers.Tokenizer(models.BPE())
    engine.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(
        vocab_size=room,
        min_frequency=MIN_FREQUENCY,
        show_progress=False,
        initial_alphabet=alphabet,
    )
    engine.train_from_iterator(_repeated(counts), trainer)
    ids = engine.get_vocab()
    return sorted(ids, key=ids.__getitem__)


def _repeated(counts: Counter[str]) -> Iterator[str]:
    """The trainer counts words itself, so each is said as often as it occurs."""
    for word in sorted(counts):
        for start in range(0, counts[word], 100_000):
            yield f"{word} " * min(100_000, counts[word] - start)
