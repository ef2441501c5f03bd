"""WordPiece as BERT has it (arXiv:1810.04805, google-research/bert `tokenization.py`).

Runs in the `tokenizers` library, and where that differs from the original it is as Hugging
Face's fast tokenizer: characters of private use are dropped; the 256 Chinese characters from
U+2B820 on do not stand apart; a Σ that ends a word becomes σ and not ς; and signs and accents
are those of an older Unicode, in which U+2E43 is no punctuation.

With `chinese_words` a vocabulary may also hold words of several Chinese characters: a run of
Chinese is matched longest first, and its pieces bear no `##`, so that 智能 is one and the same
piece at the start of a run and inside it.
"""

import dataclasses
import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, models, normalizers, pre_tokenizers

from bert_jax.config import TokenizerConfig
from bert_jax.errors import InputError
from bert_jax.text import added_tokens, files
from bert_jax.text.pieces import (
    CHINESE,
    SETTINGS_FILE,
    SPECIAL_PIECES,
    Encoding,
    SpecialIds,
    split_special,
    without_surrogates,
    write_atomic,
)
from bert_jax.text.wordpiece_training import train_pieces

VOCABULARY_FILE = "vocab.txt"
LONGEST_RUN = 50  # Chinese characters matched at once: matching takes their number squared

CHINESE_ONLY = re.compile(f"[{CHINESE}]+")
RUN_OR_REST = re.compile(f"[{CHINESE}]{{1,{LONGEST_RUN}}}|[^{CHINESE}]+")
CHARACTER_OR_REST = re.compile(f"[{CHINESE}]|[^{CHINESE}]+")
# Between these decoded text has no space: Chinese, its punctuation, full-width forms.
NO_SPACE = re.compile(f"[{CHINESE}\u2014\u2018-\u201d\u2026\u3000-\u303f\uff00-\uffef]")


@dataclasses.dataclass(frozen=True)
class Settings:
    """How text becomes words before they are matched."""

    lowercase: bool
    strip_accents: bool
    chinese_characters: bool  # each Chinese character is a word
    chinese_words: bool  # a run of Chinese is matched to pieces without ##
    max_word_characters: int  # a longer word is [UNK]

    @classmethod
    def of(cls, config: TokenizerConfig) -> "Settings":
        return cls(
            lowercase=config.lowercase,
            strip_accents=config.lowercase,
            chinese_characters=not config.chinese_words,
            chinese_words=config.chinese_words,
            max_word_characters=config.max_word_characters,
        )

    def normalizer(self) -> normalizers.Normalizer:
        return normalizers.BertNormalizer(
            clean_text=True,
            handle_chinese_chars=self.chinese_characters,
            strip_accents=self.strip_accents,
            lowercase=self.lowercase,
        )


class WordPiece:
    """A vocabulary and its settings; see `bert_jax.text.pieces.Tokenizer`."""

    def __init__(
        self,
        pieces: Iterable[str],
        settings: Settings,
        name: str = "vocabulary",
        added: Sequence[AddedToken] = (),
    ):
        """`name` stands in the messages of an InputError: no piece, one twice, none of a role.

        `added` are found before a text is cut; those not among `pieces` have the ids after.
        """
        own = tuple(pieces)
        known = set(own)
        self.pieces = (*own, *(t.content for t in added if t.content not in known))
        # Beside aliases, which the library counts, a token of no vocabulary gets another id.
        self.own = self.pieces if settings.chinese_words else own
        self.added = tuple(added)
        self.settings = settings
        self.ids = _ids(self.pieces, name)
        self.special = SpecialIds(*(self.ids[piece] for piece in SPECIAL_PIECES))
        self._engine = _engine(_aliased(self._own_ids(), settings), settings, self.added)

    @property
    def vocab_size(self) -> int:
        return len(self.pieces)

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(self._vocabulary() + self._settings()).hexdigest()

    def encode(self, text: str, *, allow_special: bool = False) -> Encoding:
        if not allow_special:
            return self._encode_plain(text, 0)
        named = dict(zip(SPECIAL_PIECES, self.special, strict=True))
        whole = Encoding([], [])
        for start, part, is_special in split_special(text, SPECIAL_PIECES):
            if is_special:
                found = Encoding([named[part]], [(start, start + len(part))])
            else:
                found = self._encode_plain(part, start)
            whole.ids.extend(found.ids)
            whole.offsets.extend(found.offsets)
        return whole

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        try:
            found = self._engine.encode_batch_fast(texts, add_special_tokens=False)
        except (UnicodeEncodeError, TypeError):
            texts = [without_surrogates(text) for text in texts]
            found = self._engine.encode_batch_fast(texts, add_special_tokens=False)
        return [encoding.ids for encoding in found]

    def decode(self, ids: Iterable[int]) -> str:
        text = ""
        for piece in (self.pieces[index] for index in ids):
            if piece.startswith("##") and len(piece) > 2:
                text += piece[2:]
            elif not text or NO_SPACE.match(text[-1]) or NO_SPACE.match(piece):
                text += piece
            else:
                text += " " + piece
        return text

    def is_continuation(self, piece_id: int) -> bool:
        piece = self.pieces[piece_id]
        return piece.startswith("##") and len(piece) > 2

    def words(self, text: str) -> list[str]:
        """What the text is cut into before pieces are looked for."""
        normal = self._engine.normalizer.normalize_str(without_surrogates(text))
        return [word for word, _ in self._engine.pre_tokenizer.pre_tokenize_str(normal)]

    def engine(self) -> dict[str, Any]:
        """What encodes, as the `tokenizers` library writes it in a tokenizer.json."""
        ids = self._own_ids()
        values = json.loads(_engine(ids, self.settings, self.added).to_str())
        # The library writes one piece an id, and would lose what makes runs of Chinese work.
        values["model"]["vocab"] = _aliased(ids, self.settings)
        return values

    def save(self, directory: str | os.PathLike[str]) -> None:
        write_atomic(Path(directory) / VOCABULARY_FILE, self._vocabulary())
        write_atomic(Path(directory) / SETTINGS_FILE, self._settings())

    def _encode_plain(self, text: str, start: int) -> Encoding:
        try:
            found = self._engine.encode(text, add_special_tokens=False)
        except (UnicodeEncodeError, TypeError):
            found = self._engine.encode(without_surrogates(text), add_special_tokens=False)
        spans = found.offsets
        if self.added:  # some take the space beside them
            spans = [_without_space(text, left, right) for left, right in spans]
        return Encoding(found.ids, [(start + left, start + right) for left, right in spans])

    def _own_ids(self) -> dict[str, int]:
        return {piece: self.ids[piece] for piece in self.own}

    def _vocabulary(self) -> bytes:
        return "".join(f"{piece}\n" for piece in self.own).encode()

    def _settings(self) -> bytes:
        values = {
            "tokenizer_class": "BertTokenizer",
            "do_lower_case": self.settings.lowercase,
            "strip_accents": self.settings.strip_accents,
            "tokenize_chinese_chars": self.settings.chinese_characters,
            "chinese_words": self.settings.chinese_words,
            "max_input_chars_per_word": self.settings.max_word_characters,
        }
        if self.added:
            values[added_tokens.DECODER] = {
                str(self.ids[token.content]): added_tokens.values(token) for token in self.added
            }
        return (json.dumps(values, indent=2) + "\n").encode()


def read_vocabulary(path: Path) -> list[str]:
    """The lines of a vocab.txt. Raises InputError for an empty line among them."""
    found = [line.text for line in files.lines(path)]
    while found and not found[-1]:
        found.pop()
    if "" in found:
        raise InputError(
            f"{path}:{found.index('') + 1} is empty; put a piece there, such as [unused0],"
            " so that the ids of the others stay."
        )
    return found


def read_settings(path: Path, values: dict[str, Any]) -> dict[str, Any]:
    """The fields of `Settings` that a tokenizer_config.json gives."""
    known: dict[str, tuple[str, type]] = {
        "do_lower_case": ("lowercase", bool),
        "strip_accents": ("strip_accents", bool),
        "tokenize_chinese_chars": ("chinese_characters", bool),
        "chinese_words": ("chinese_words", bool),
        "max_input_chars_per_word": ("max_word_characters", int),
    }
    found = {}
    for key, (name, kind) in known.items():
        if values.get(key) is not None:
            if not isinstance(values[key], kind):
                raise InputError(f"{path}: {key} must be {kind.__name__}, not {values[key]!r}.")
            found[name] = values[key]
    return found


def numbered(pieces: Sequence[str], name: str) -> dict[str, int]:
    """Raises InputError if there is none, or one twice."""
    if not pieces:
        raise InputError(f"{name} is empty; give a vocabulary with one piece a line.")
    ids: dict[str, int] = {}
    for index, piece in enumerate(pieces):
        if piece in ids:
            raise InputError(
                f"{name}:{index + 1} repeats {piece!r} of line {ids[piece] + 1};"
                " rename it, for example to [unused0], so that the ids of the others stay."
            )
        ids[piece] = index
    return ids


def _ids(pieces: Sequence[str], name: str) -> dict[str, int]:
    ids = numbered(pieces, name)
    missing = [piece for piece in SPECIAL_PIECES if piece not in ids]
    if missing:
        raise InputError(
            f"{name} has no {' and no '.join(missing)}; add it as a line of its own at the end,"
            " or take the vocabulary the model was trained with."
        )
    return ids


def _engine(
    ids: dict[str, int], settings: Settings, added: Sequence[AddedToken]
) -> tokenizers.Tokenizer:
    split: pre_tokenizers.PreTokenizer = pre_tokenizers.BertPreTokenizer()
    if settings.chinese_words:
        pattern = tokenizers.Regex(_runs(ids, settings.max_word_characters))
        split = pre_tokenizers.Sequence([split, pre_tokenizers.Split(pattern, "isolated")])
    engine = tokenizers.Tokenizer(
        models.WordPiece(
            ids, unk_token="[UNK]", max_input_chars_per_word=settings.max_word_characters
        )
    )
    engine.normalizer = settings.normalizer()
    engine.pre_tokenizer = split
    engine.add_tokens(list(added))
    return engine


def _without_space(text: str, left: int, right: int) -> tuple[int, int]:
    while left < right and text[left].isspace():
        left += 1
    while left < right and text[right - 1].isspace():
        right -= 1
    return left, right


def _aliased(ids: dict[str, int], settings: Settings) -> dict[str, int]:
    if not settings.chinese_words:
        return ids
    # The library asks for "##X" inside a run; the alias answers with the id of X itself, also
    # where the vocabulary has an ##X, which no Chinese text has ever met: in the original
    # every character stands alone.
    aliases = {f"##{piece}": i for piece, i in ids.items() if CHINESE_ONLY.fullmatch(piece)}
    return {**ids, **aliases}


def _runs(pieces: Iterable[str], max_word_characters: int) -> str:
    """A pattern of runs of Chinese that can be matched whole, else of single characters.

    A character that no piece has stands alone, or it would make its whole run [UNK].
    """
    chinese = [piece for piece in pieces if CHINESE_ONLY.fullmatch(piece)]
    single = {piece for piece in chinese if len(piece) == 1}
    # In a vocabulary trained here every character has a piece; others may lack some.
    units = sorted((p for p in chinese if not single.issuperset(p)), key=lambda p: (-len(p), p))
    most = min(LONGEST_RUN, max_word_characters) // max(map(len, units), default=1)
    if single:
        units.append(f"[{''.join(sorted(single))}]")
    run = f"(?:{'|'.join(units)}){{1,{max(most, 1)}}}|" if units else ""
    return f"{run}[{CHINESE}]"


def train(config: TokenizerConfig, texts: Iterable[str]) -> WordPiece:
    """`train_on_words` for the words of the texts."""
    return train_on_words(config, count_words(config, texts))


def train_on_words(config: TokenizerConfig, words: Counter[str]) -> WordPiece:
    """A vocabulary of at most `config.vocab_size` pieces, the five special ones first.

    `words` are those of `count_words`, added up over the parts of a text in any order.
    Raises InputError if there is none, or if their characters do not fit.
    """
    if not words:
        raise InputError("There is no text to train a tokenizer on; check config.sources.")
    room = config.vocab_size - len(SPECIAL_PIECES)
    return WordPiece([*SPECIAL_PIECES, *train_pieces(words, room)], Settings.of(config))


def count_words(config: TokenizerConfig, texts: Iterable[str]) -> Counter[str]:
    """How often each word occurs; a run of Chinese is one with `chinese_words`.

    Memory grows with the number of different words.
    """
    settings = Settings.of(config)
    # Chinese characters are cut apart below, once for each different word: twice as fast.
    normalizer = dataclasses.replace(settings, chinese_characters=False).normalizer()
    splitter = pre_tokenizers.BertPreTokenizer()
    joined: Counter[str] = Counter()
    for text in texts:
        normal = normalizer.normalize_str(without_surrogates(text))
        joined.update(word for word, _ in splitter.pre_tokenize_str(normal))
    parts = RUN_OR_REST if settings.chinese_words else CHARACTER_OR_REST
    words: Counter[str] = Counter()
    for word, count in joined.items():
        for part in parts.findall(word):
            if len(part) <= settings.max_word_characters:
                words[part] += count
    return words
