"""SentencePiece (arXiv:1808.06226), unigram or BPE: one `.model` file holds all of it."""

import dataclasses
import hashlib
import io
import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import sentencepiece

from bert_jax.config import TokenizerConfig
from bert_jax.errors import InputError
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

MODEL_FILE = "spiece.model"
SPACE = "▁"
# What others call the five: ALBERT and XLNet, then the RoBERTa and T5 kind.
NAMES = {
    "pad": ("[PAD]", "<pad>"),
    "unk": ("[UNK]", "<unk>"),
    "cls": ("[CLS]", "<cls>", "<s>"),
    "sep": ("[SEP]", "<sep>", "</s>"),
    "mask": ("[MASK]", "<mask>"),
}
CHARACTER_COVERAGE = 0.9995
THREADS = 4  # a constant: sums in another order would give another vocabulary
LONGEST_LINE = 2_000  # characters; longer lines are cut, as unigram seeds see all of a line
DELIMITER = "\ue000"  # no piece goes over it, for `chinese_words=False`; control characters vanish
# (sentencepiece 0.2.2 keeps it as a piece, which no text has: a row of the table is wasted)


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the model file was trained with. The file itself does the work."""

    kind: str  # "unigram", "bpe" or "" for somebody else's
    lowercase: bool | None  # case folding; accents stay. None: the file does not say
    chinese_words: bool | None


class SentencePiece:
    """A `.model` file; see `bert_jax.text.pieces.Tokenizer`."""

    def __init__(self, model: bytes, settings: Settings, name: str = "model"):
        """`name` stands in the messages of an InputError: not a model, a role without a piece."""
        self.settings = settings
        self._model = model
        self._engine = sentencepiece.SentencePieceProcessor()
        try:
            self._engine.LoadFromSerializedProto(model)
        except (RuntimeError, ValueError) as error:
            raise InputError(f"{name} is not a SentencePiece model; give a .model file.") from error
        self.pieces = tuple(map(self._engine.id_to_piece, range(len(self._engine))))
        ids = {piece: index for index, piece in enumerate(self.pieces)}
        self.special = _special(ids, name)
        shown = (self.pieces[index] for index in self.special)
        self._by_name = dict(zip(SPECIAL_PIECES, self.special, strict=True)) | {
            piece: ids[piece] for piece in shown
        }
        # Such a piece would be found in plain text too, unless the text is cut inside it.
        self._taken = [
            piece
            for piece, index in self._by_name.items()
            if not self._engine.is_control(index) and not self._engine.is_unknown(index)
        ]

    @property
    def vocab_size(self) -> int:
        return len(self.pieces)

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(self._model + self._settings()).hexdigest()

    def encode(self, text: str, *, allow_special: bool = False) -> Encoding:
        text = without_surrogates(text)
        whole = Encoding([], [])
        for start, part, is_special in self._parts(text, allow_special):
            if is_special:
                ids, offsets = [self._by_name[part]], [(0, len(part))]
            else:
                inside = start > 0 and not text[start - 1].isspace() and not part[0].isspace()
                ids, offsets = self._encode_plain(part, inside)
            whole.ids.extend(ids)
            whole.offsets.extend((start + left, start + right) for left, right in offsets)
        return whole

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        if any(piece in text for text in texts for piece in self._taken):
            return [self.encode(text).ids for text in texts]
        return self._engine.encode_as_ids([without_surrogates(text) for text in texts])

    def decode(self, ids: Iterable[int]) -> str:
        text = ""
        for index in ids:
            piece = self.pieces[index]
            text += f"{SPACE}{piece}{SPACE}" if index in self.special else piece
        return re.sub(f"{SPACE}+", " ", text).strip()

    def is_continuation(self, piece_id: int) -> bool:
        return piece_id not in self.special and not self.pieces[piece_id].startswith(SPACE)

    def save(self, directory: str | os.PathLike[str]) -> None:
        write_atomic(Path(directory) / MODEL_FILE, self._model)
        write_atomic(Path(directory) / SETTINGS_FILE, self._settings())

    def _parts(self, text: str, allow_special: bool) -> Iterator[tuple[int, str, bool]]:
        if allow_special:
            yield from split_special(text, self._by_name)
        elif any(piece in text for piece in self._taken):
            for start, part, is_special in split_special(text, self._taken):
                if is_special:
                    yield start, part[0], False
                    yield start + 1, part[1:], False
                else:
                    yield start, part, False
        else:
            yield 0, text, False

    def _encode_plain(self, text: str, inside: bool) -> tuple[list[int], list[tuple[int, int]]]:
        """`inside`: the text goes on a word, so the space put before it is taken off again."""
        found = self._engine.encode_as_offset_mapping(text)
        ids, offsets = list(found["ids"]), list(found["offsets"])
        if ids and inside:
            rest = self.pieces[ids[0]].removeprefix(SPACE)
            if not rest:
                ids, offsets = ids[1:], offsets[1:]
            elif self._engine.piece_to_id(rest) != self.special.unk:
                ids[0] = self._engine.piece_to_id(rest)
        # The space before a word is part of its piece, not of the word.
        return ids, [(_without_space(text, left, right), right) for left, right in offsets]

    def _settings(self) -> bytes:
        values: dict[str, Any] = {
            "tokenizer_class": "AlbertTokenizer",
            "kind": self.settings.kind,
            "do_lower_case": self.settings.lowercase,
            "chinese_words": self.settings.chinese_words,
        }
        return (json.dumps(values, indent=2) + "\n").encode()


def _special(ids: dict[str, int], name: str) -> SpecialIds:
    found = {}
    for role, names in NAMES.items():
        known = [ids[piece] for piece in names if piece in ids]
        if not known:
            raise InputError(
                f"{name} has no piece for {role} ({' or '.join(names)}); train one that has,"
                " or take the model's own."
            )
        found[role] = known[0]
    return SpecialIds(**found)


def _without_space(text: str, left: int, right: int) -> int:
    while left < right and text[left].isspace():
        left += 1
    return left


def train(config: TokenizerConfig, texts: Iterable[str]) -> SentencePiece:
    """The special pieces are [PAD] [UNK] [CLS] [SEP] [MASK], 0 to 4.

    The same text in the same order gives the same model. Lower case folds case and width
    (nmt_nfkc_cf) but leaves accents. A small text may give fewer pieces than asked. Raises
    InputError if there is no text, or if its characters do not fit.
    """
    lines = _lines(texts, config.chinese_words)
    first = next(lines, None)
    if first is None:
        raise InputError("There is no text to train a tokenizer on; check config.sources.")
    pad, unk, cls, sep, mask = SPECIAL_PIECES
    options: dict[str, Any] = {
        "pad_id": 0, "unk_id": 1, "bos_id": 2, "eos_id": 3, "control_symbols": [mask],
        "pad_piece": pad, "unk_piece": unk, "bos_piece": cls, "eos_piece": sep,
        "pretokenization_delimiter": "" if config.chinese_words else DELIMITER,
    }  # fmt: skip
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_chained(first, lines),
            model_writer=model,
            model_type=config.kind,
            vocab_size=config.vocab_size,
            hard_vocab_limit=False,
            character_coverage=CHARACTER_COVERAGE,
            byte_fallback=False,
            normalization_rule_name="nmt_nfkc_cf" if config.lowercase else "nmt_nfkc",
            num_threads=THREADS,
            input_sentence_size=0,
            shuffle_input_sentence=False,
            max_sentence_length=8 * LONGEST_LINE,  # bytes
            minloglevel=2,
            **options,
        )
    except RuntimeError as error:
        needed = re.search(r"smaller than required_chars.*?(\d+) vs (\d+)", str(error))
        least = f"; use at least {int(needed[2]) + 1}" if needed else ""
        raise InputError(
            f"config.tokenizer.vocab_size={config.vocab_size} does not suit the text{least}"
            f" (SentencePiece: {str(error).strip()})."
        ) from error
    settings = Settings(config.kind, config.lowercase, config.chinese_words)
    return SentencePiece(model.getvalue(), settings)


def _lines(texts: Iterable[str], chinese_words: bool) -> Iterator[str]:
    for text in texts:
        for line in without_surrogates(text).replace(DELIMITER, " ").splitlines():
            for start in range(0, len(line), LONGEST_LINE):
                part = line[start : start + LONGEST_LINE].strip()
                if part and not chinese_words:
                    part = re.sub(f"(?<=.)(?=[{CHINESE}])|(?<=[{CHINESE}])(?=.)", DELIMITER, part)
                if part:
                    yield part


def _chained(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest
