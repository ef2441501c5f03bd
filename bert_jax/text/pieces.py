"""What every tokenizer shares: its result types, special pieces and how files are saved."""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from bert_jax.workdir import write_bytes

SPECIAL_PIECES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
SETTINGS_FILE = "tokenizer_config.json"  # the name and, where they exist, the keys of Hugging Face

# The blocks that BERT calls Chinese characters (tokenization.py `_is_chinese_char`), without the
# 256 characters from U+2B820 on, which the `tokenizers` library leaves out.
CHINESE = (
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0002a6df\U0002a700-\U0002b73f\U0002b740-\U0002b81f\U0002b920-\U0002ceaf"
    "\U0002f800-\U0002fa1f"
)


class SpecialIds(NamedTuple):
    """Ids of the five special pieces, read from the vocabulary."""

    pad: int
    unk: int
    cls: int
    sep: int
    mask: int


class Encoding(NamedTuple):
    """Pieces of a text, without special ones added."""

    ids: list[int]
    offsets: list[tuple[int, int]]  # character spans [start, end) in the original text


@runtime_checkable
class Tokenizer(Protocol):
    """Text to ids and back. Nothing is added at either end of the text."""

    special: SpecialIds
    pieces: tuple[str, ...]  # the index is the id

    @property
    def vocab_size(self) -> int: ...

    @property
    def fingerprint(self) -> str:
        """sha256 over vocabulary and settings, in hex."""
        ...

    def encode(self, text: str, *, allow_special: bool = False) -> Encoding:
        """A special piece written out in the text is one id only if `allow_special`, a token
        that was added to the vocabulary always."""
        ...

    def encode_batch(self, texts: list[str]) -> list[list[int]]: ...

    def decode(self, ids: Iterable[int]) -> str: ...

    def is_continuation(self, piece_id: int) -> bool:
        """Whether the piece says of itself that it goes on a word (`##`, or no `▁`)."""
        ...

    def save(self, directory: str | os.PathLike[str]) -> None: ...


def split_special(text: str, special: Iterable[str]) -> Iterator[tuple[int, str, bool]]:
    """(start, part, whether the part is a special piece), in order, empty parts left out."""
    pattern = re.compile("(" + "|".join(map(re.escape, special)) + ")")
    start = 0
    for index, part in enumerate(pattern.split(text)):
        if part:
            yield start, part, index % 2 == 1
        start += len(part)


def without_surrogates(text: str) -> str:
    """Lone surrogates, which have no UTF-8, become U+FFFD; every offset stays."""
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


def write_atomic(path: Path, content: bytes) -> None:
    """Writes the file whole or not at all; makes its directory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, content)
