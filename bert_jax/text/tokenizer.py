"""The one way to a tokenizer: train it on text, or load what somebody saved."""

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tokenizers import AddedToken

from bert_jax.config import TokenizerConfig
from bert_jax.errors import InputError
from bert_jax.text import added_tokens, sentence_piece, tokenizer_config, tokenizer_json, wordpiece
from bert_jax.text.pieces import SETTINGS_FILE, Encoding, SpecialIds, Tokenizer

__all__ = ["Encoding", "SpecialIds", "Tokenizer", "load", "train"]

# The names under which tokenizer directories hold their vocabulary, best first.
VOCABULARIES = (
    wordpiece.VOCABULARY_FILE,
    sentence_piece.MODEL_FILE,
    "tokenizer.model",
    "sentencepiece.bpe.model",
    tokenizer_json.FILE,
)


def train(config: TokenizerConfig, texts: Iterable[str]) -> Tokenizer:
    """Trains the kind that `config` asks for. Raises InputError if the text does not do."""
    if config.kind == "wordpiece":
        return wordpiece.train(config, texts)
    return sentence_piece.train(config, texts)


def load(path: str | Path, config: TokenizerConfig | None = None) -> Tokenizer:
    """The tokenizer of a directory, a vocab.txt, a SentencePiece .model or a tokenizer.json.

    A tokenizer_config.json in the same directory says how text becomes words, or else a
    tokenizer.json; `config` may say it where neither does, but not say otherwise. Where
    nothing says it, a vocabulary with capital letters is cased, and words have at most 100
    characters, as Hugging Face has it. Added tokens of a WordPiece are those of all its files.
    Raises InputError if the files do not make a tokenizer, or one that cuts text otherwise
    than is done here.
    """
    file = _vocabulary_file(Path(path))
    values = tokenizer_config.read(file.parent)
    if file.suffix == ".model":
        tokenizer_config.check_sentence_piece(file.parent, values)
        return _load_sentence_piece(file, values, config)
    tokenizer_config.check_wordpiece(file.parent, values)
    return _load_wordpiece(file, values, config)


def _vocabulary_file(path: Path) -> Path:
    if path.is_file():
        return path
    if path.is_dir():
        for name in VOCABULARIES:
            if (path / name).is_file():
                return path / name
        raise InputError(f"{path} is no tokenizer: it holds none of {', '.join(VOCABULARIES)}.")
    raise InputError(f"{path} does not exist; name a tokenizer directory, vocab.txt or .model.")


def _load_wordpiece(
    file: Path, values: dict[str, Any], config: TokenizerConfig | None
) -> Tokenizer:
    pieces, added, values = _wordpiece_files(file, values)
    if sum(map(_is_of_sentence_piece, pieces)) > sum(piece.startswith("##") for piece in pieces):
        raise InputError(f"{file} has pieces of SentencePiece, with ▁ for space: give its .model.")
    said = wordpiece.read_settings(file.parent / SETTINGS_FILE, values)
    if config is not None:
        _agree(config, {"kind": "wordpiece"}, file)
        told = {
            name: said[name]
            for name in ("lowercase", "chinese_words", "max_word_characters")
            if name in said
        }
        _agree(config, told, file.parent / SETTINGS_FILE)
        wanted = wordpiece.Settings.of(config)
    else:
        cased = any(
            piece != piece.lower()
            for piece in pieces
            if not (piece.startswith(("[", "<")) and piece.endswith(("]", ">")))
        )
        wanted = wordpiece.Settings(
            lowercase=not cased,
            strip_accents=not cased,
            chinese_characters=True,
            chinese_words=False,
            max_word_characters=100,
        )
    found = {**vars(wanted), **said}
    found["strip_accents"] = said.get("strip_accents", found["lowercase"])
    return wordpiece.WordPiece(pieces, wordpiece.Settings(**found), str(file), added)


def _wordpiece_files(
    file: Path, values: dict[str, Any]
) -> tuple[list[str], list[AddedToken], dict[str, Any]]:
    """The vocabulary, the added tokens, and what a tokenizer.json says beyond `values`."""
    whole = file.with_name(tokenizer_json.FILE)
    said = tokenizer_json.read(whole) if whole.is_file() else {}
    if file.name == tokenizer_json.FILE:
        vocabulary = tokenizer_json.vocabulary(file, said)
    else:
        vocabulary = wordpiece.numbered(wordpiece.read_vocabulary(file), str(file))
    found = added_tokens.read(file.parent, values, said)
    pieces, added = added_tokens.placed(vocabulary, found, file)
    if said:
        told = tokenizer_json.settings(
            whole, said, chinese_words=values.get("chinese_words") is True
        )
        values = {**told, **_given(values)}
    return pieces, added, values


def _is_of_sentence_piece(piece: str) -> bool:
    return piece.startswith(sentence_piece.SPACE) and piece != sentence_piece.SPACE


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _load_sentence_piece(
    file: Path, values: dict[str, Any], config: TokenizerConfig | None
) -> Tokenizer:
    said = {
        name: values[key]
        for key, name in (
            ("kind", "kind"),
            ("do_lower_case", "lowercase"),
            ("chinese_words", "chinese_words"),
        )
        if values.get("kind") and values.get(key) is not None
    }
    if config is not None:
        if config.kind == "wordpiece":
            _agree(config, {"kind": said.get("kind", "unigram")}, file)
        _agree(config, said, file.parent / SETTINGS_FILE)
    settings = sentence_piece.Settings(
        kind=str(said.get("kind", "")),
        lowercase=said.get("lowercase"),
        chinese_words=said.get("chinese_words"),
    )
    found = sentence_piece.SentencePiece(file.read_bytes(), settings, str(file))
    names = itertools.chain(found.pieces, *sentence_piece.NAMES.values())
    beside = added_tokens.read(file.parent, values, {}).ids
    for token in beside.keys() - set(names):
        raise InputError(
            f"{beside[token][1]} has the added token {token!r}, which is no piece of {file}: give a"
            " .model that has it, or take it out."
        )
    return found


def _agree(config: TokenizerConfig, said: dict[str, Any], path: Path) -> None:
    """Raises InputError if `config` says otherwise than the file at `path`."""
    other = [name for name in said if getattr(config, name) != said[name]]
    if other:
        asked = " and ".join(f"config.tokenizer.{n}={getattr(config, n)!r}" for n in other)
        mend = " and ".join(repr(said[name]) for name in other)
        raise InputError(f"{asked} does not go with {path}; set it to {mend}.")
