"""A tokenizer as Hugging Face's libraries open it, and one with more words."""

import dataclasses
import json
from pathlib import Path
from typing import Any, NamedTuple

from tokenizers import AddedToken

from bert_jax import workdir as wd
from bert_jax.errors import InputError
from bert_jax.text import added_tokens, files
from bert_jax.text.pieces import SETTINGS_FILE, SPECIAL_PIECES, Tokenizer
from bert_jax.text.tokenizer_json import FILE
from bert_jax.text.wordpiece import CHINESE_ONLY, WordPiece

ROLES = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")


class Word(NamedTuple):
    """A word to be added, and the ids of the pieces it was so far."""

    text: str
    pieces: list[int]


def write(tokenizer: Tokenizer, directory: Path, *, positions: int) -> None:
    """Vocabulary and settings, which say besides what our own readers leave unsaid."""
    tokenizer.save(directory)
    special: dict[str, Any] = dict(
        zip(ROLES, (tokenizer.pieces[number] for number in tokenizer.special), strict=True)
    )
    said = json.loads((directory / SETTINGS_FILE).read_text("utf-8"))
    if isinstance(tokenizer, WordPiece):
        # Only the library that reads tokenizer.json can have pieces of several characters.
        whole = "PreTrainedTokenizerFast" if tokenizer.settings.chinese_words else "BertTokenizer"
        said["tokenizer_class"] = whole
        wd.write_json(directory / FILE, _tokenizer_json(tokenizer))
        added = [token.content for token in tokenizer.added if token.special]
        if added:
            special["additional_special_tokens"] = added
    else:
        # Lower case is the .model's own; accents are for it to keep or strip.
        said["do_lower_case"] = bool(said["do_lower_case"])
        said["keep_accents"] = True
    said |= special | {"model_max_length": positions}
    wd.write_json(directory / SETTINGS_FILE, said)
    wd.write_json(directory / added_tokens.SPECIAL_FILE, special)


def read_words(path: Path, tokenizer: Tokenizer) -> tuple[list[Word], list[str]]:
    """The new words of a file, one a line, and those that the vocabulary has already.

    Raises InputError naming the line of what can be no piece of this tokenizer.
    """
    if not isinstance(tokenizer, WordPiece):
        raise InputError(
            f"--add_words={path}: words can be added to a WordPiece vocabulary alone, and that of"
            " a SentencePiece model is fixed: take a model with a vocab.txt."
        )
    _check_added(path, tokenizer)
    known = set(tokenizer.pieces)
    words: dict[str, Word] = {}
    there: list[str] = []
    for line in files.lines(path):
        if not line.text.strip():
            continue
        parts = tokenizer.words(line.text)
        if _joins_characters(tokenizer, "".join(parts)):
            parts = ["".join(parts)]
        if len(parts) != 1:
            shown = " | ".join(parts)
            raise InputError(
                f"{path}:{line.number}: {line.text.strip()!r} is no one word to this tokenizer, it"
                f" reads {shown}: leave it out."
            )
        (text,) = parts
        pieces = tokenizer.encode(text).ids
        if text in known:
            there.append(text)
        elif len(text) > tokenizer.settings.max_word_characters:
            raise InputError(
                f"{path}:{line.number} is longer than the"
                f" {tokenizer.settings.max_word_characters} characters of a word: leave it out."
            )
        else:
            words[text] = Word(text, pieces)
    if not words:
        raise InputError(f"--add_words={path} holds no word that the vocabulary has not.")
    return list(words.values()), there


def _check_added(path: Path, tokenizer: WordPiece) -> None:
    """Tokens beside the vocabulary become pieces of it, for the ids after theirs are the words':
    raises InputError for one that words could then be cut into."""
    for token in tokenizer.pieces[len(tokenizer.own) :]:
        if len(tokenizer.words(token.removeprefix("##"))) < 2:
            raise InputError(
                f"--add_words={path}: the added token {token!r} is a word itself, which others"
                " would be cut into with words after it: leave --add_words away."
            )


def with_words(tokenizer: WordPiece, words: list[Word]) -> WordPiece:
    """The vocabulary with the words after its end.

    Where one joins Chinese characters that stood alone, runs of Chinese are from then on
    matched longest first; text without the words has the same pieces as before.
    """
    settings = tokenizer.settings
    if any(_joins_characters(tokenizer, word.text) for word in words):
        settings = dataclasses.replace(settings, chinese_characters=False, chinese_words=True)
    pieces = [*tokenizer.pieces, *(word.text for word in words)]
    return WordPiece(pieces, settings, added=tokenizer.added)


def _joins_characters(tokenizer: WordPiece, text: str) -> bool:
    is_chinese = CHINESE_ONLY.fullmatch(text) is not None and len(text) > 1
    return tokenizer.settings.chinese_characters and is_chinese


def _tokenizer_json(tokenizer: WordPiece) -> dict[str, Any]:
    special = dict(zip(SPECIAL_PIECES, tokenizer.special, strict=True))
    tokens = [*(AddedToken(piece, special=True) for piece in special), *tokenizer.added]
    sequence = [
        {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
        {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
    ]
    second = [
        {"Sequence": {"id": "B", "type_id": 1}},
        {"SpecialToken": {"id": "[SEP]", "type_id": 1}},
    ]
    return tokenizer.engine() | {
        "added_tokens": [
            {"id": tokenizer.ids[token.content], **added_tokens.values(token)}
            for token in sorted(tokens, key=lambda token: tokenizer.ids[token.content])
        ],
        "post_processor": {
            "type": "TemplateProcessing",
            "single": sequence,
            "pair": sequence + second,
            "special_tokens": {
                piece: {"id": piece, "ids": [special[piece]], "tokens": [piece]}
                for piece in ("[CLS]", "[SEP]")
            },
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
    }
