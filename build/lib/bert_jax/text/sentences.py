"""Sentences of a text, through the `sentencex` library."""

import re
from collections.abc import Iterator

import sentencex

from bert_jax.text.pieces import CHINESE

# sentencex takes time that grows with the square of what it is given at once.
LONGEST_PARAGRAPH = 5_000  # characters

LETTER = re.compile(r"[^\W\d_]")
CHINESE_CHARACTER = re.compile(f"[{CHINESE}]")
END = re.compile(r"[。！？!?；;…]+[”’」』）】》)\]]*|\.(?=\s)")
# sentencex ends a Chinese sentence before these where quotes are nested or a comma follows,
# and after any closed title.
CONTINUATION = re.compile(r"[，、；：。！？,;:…”’」』）】》)\]]")
# Ends inside brackets or quotes, as in （还好。）再见, which sentencex leaves whole. What a
# comma or another end follows goes on.
CHINESE_CLOSED_END = re.compile(
    r"(?<=[。！？!?…])[”’」』）】)\]]+(?=[^\s，、；：。！？,;:.!?…”’」』）】》)\]])"
)
ENGLISH_CLOSED_END = re.compile(r"(?:^|(?<=[.!?][)\]] ))[(\[][^()\[\]]*[.!?][)\]](?=\s)")


def split_sentences(text: str) -> list[str]:
    """Sentences in order, stripped, none empty; a line end always ends one."""
    found: list[str] = []
    for paragraph in text.splitlines():
        for part in _parts(paragraph.strip()):
            found.extend(_sentences(part))
    return found


def _sentences(paragraph: str) -> Iterator[str]:
    if is_chinese(paragraph):
        pieces, closed_end = _joined(sentencex.segment("zh", paragraph)), CHINESE_CLOSED_END
    else:
        pieces, closed_end = sentencex.segment("en", paragraph), ENGLISH_CLOSED_END
    for piece in pieces:
        start = 0
        for end in closed_end.finditer(piece):
            yield from _not_empty(piece[start : end.end()])
            start = end.end()
        yield from _not_empty(piece[start:])


def _joined(pieces: list[str]) -> Iterator[str]:
    sentence: list[str] = []
    for piece in pieces:
        after_title = bool(sentence) and sentence[-1].endswith("》")
        if not after_title and not CONTINUATION.match(piece):
            yield "".join(sentence)
            sentence = []
        sentence.append(piece)
    yield "".join(sentence)


def is_chinese(text: str) -> bool:
    """Whether Chinese characters are the majority of the letters."""
    return 2 * len(CHINESE_CHARACTER.findall(text)) > len(LETTER.findall(text))


def _not_empty(sentence: str) -> Iterator[str]:
    if sentence.strip():
        yield sentence.strip()


def _parts(paragraph: str) -> Iterator[str]:
    """The paragraph, cut at its last sentence end before every LONGEST_PARAGRAPH characters."""
    start = 0
    while len(paragraph) - start > LONGEST_PARAGRAPH:
        stop = start + LONGEST_PARAGRAPH
        ends = [end.end() for end in END.finditer(paragraph, start, stop)]
        start, cut = (ends[-1] if ends else stop), start
        yield paragraph[cut:start]
    yield paragraph[start:]
