"""Added tokens, which Hugging Face finds in a text before it is cut: who says which, their ids.

An entity marker or a <user> is a piece like others, but no cutting would come to it. The five
special pieces are among them in every file; they go their own way (`allow_special`).
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tokenizers import AddedToken

from bert_jax.errors import InputError
from bert_jax.text import tokenizer_json
from bert_jax.text.pieces import SETTINGS_FILE, SPECIAL_PIECES
from bert_jax.text.tokenizer_config import read_object

FILE = "added_tokens.json"
SPECIAL_FILE = "special_tokens_map.json"
DECODER = "added_tokens_decoder"  # a field of tokenizer_config.json: ids, and tokens with flags
FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
# Fields of special tokens, of one or of several, beside those of the five.
NAMED = ("bos_token", "eos_token", "additional_special_tokens", "extra_special_tokens")


class Found(NamedTuple):
    """What the files of a directory say, by the contents of the tokens."""

    tokens: dict[str, AddedToken]
    ids: dict[str, tuple[int, Path]]  # and who says it; of one that is only named none


def values(token: AddedToken) -> dict[str, Any]:
    """As Hugging Face writes it, beside its id."""
    return {"content": token.content} | {flag: getattr(token, flag) for flag in FLAGS}


def read(directory: Path, config: Mapping[str, Any], whole: Mapping[str, Any]) -> Found:
    """The added tokens of all files, with the flags of the one that Hugging Face prefers.

    `config` is what the directory's tokenizer_config.json says, `whole` its tokenizer.json.
    """
    found = Found({}, {})
    for name, said in (
        (SPECIAL_FILE, read_object(directory / SPECIAL_FILE)),
        (SETTINGS_FILE, config),
    ):
        for token in _named(said, directory / name):
            found.tokens[token.content] = token
    # The oldest way: a token without flags, and special where it is named so.
    for content, number in read_object(directory / FILE).items():
        _, found.ids[content] = _entry(number, {"content": content}, directory / FILE)
        found.tokens.setdefault(content, AddedToken(content))
    for name, entries in (
        (tokenizer_json.FILE, whole.get("added_tokens")),
        (SETTINGS_FILE, config.get(DECODER)),
    ):
        for token, place in _entries(entries or [], directory / name):
            found.tokens[token.content], found.ids[token.content] = token, place
    return found


def placed(
    vocabulary: Mapping[str, int], found: Found, file: Path
) -> tuple[list[str], list[AddedToken]]:
    """The vocabulary's own pieces, and the tokens by their ids: others than its go on after it.

    Raises InputError where an id is left out, or is not the token's.
    """
    ids = dict(vocabulary)
    for content, (number, _) in found.ids.items():
        ids.setdefault(content, number)
    _, last = max(found.ids.values(), default=(0, file))
    pieces = tokenizer_json.in_order(ids, last)
    for content, (number, path) in found.ids.items():
        if ids[content] != number or pieces[number] != content:
            raise InputError(
                f"{path} gives the added token {content!r} the id {number}, and the vocabulary"
                " says otherwise: mend it."
            )
    outside = ids.keys() - vocabulary.keys() - set(SPECIAL_PIECES)
    own = len(pieces)
    while own and pieces[own - 1] in outside:
        own -= 1
    known = ids.keys() & found.tokens.keys() - set(SPECIAL_PIECES)
    return pieces[:own], [found.tokens[content] for content in sorted(known, key=ids.__getitem__)]


def _named(said: Mapping[str, Any], path: Path) -> Iterator[AddedToken]:
    for field in NAMED:
        entry = said.get(field)
        several: Iterable[Any] = entry if isinstance(entry, list) else [entry]
        if isinstance(entry, dict) and "content" not in entry:
            several = entry.values()
        for one in several:
            if one:
                token = one if isinstance(one, dict) else {"content": one}
                yield _entry(0, {**token, "special": True}, path)[0]


def _entries(said: Any, path: Path) -> Iterator[tuple[AddedToken, tuple[int, Path]]]:
    """Of tokens that say their ids, or of ids that have tokens."""
    try:
        several = said.items() if isinstance(said, dict) else [(each["id"], each) for each in said]
    except (KeyError, TypeError) as error:
        raise _refusal(path, error) from error
    for number, token in several:
        yield _entry(number, token, path)


def _entry(number: Any, said: Any, path: Path) -> tuple[AddedToken, tuple[int, Path]]:
    try:
        flags = {flag: said[flag] for flag in FLAGS if said.get(flag) is not None}
        token = AddedToken(said["content"], **flags)
        place = (int(number), path)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _refusal(path, error) from error
    if not token.content:
        raise InputError(f"{path} has an added token without any character: take it out.")
    return token, place


def _refusal(path: Path, error: Exception) -> InputError:
    return InputError(
        f"{path} must give each added token a content, an id and flags of true or false ({error}):"
        " mend it."
    )
