"""Hugging Face's tokenizer.json of a WordPiece: its pieces, and how it makes words of text."""

import json
from pathlib import Path
from typing import Any

from bert_jax.errors import InputError

FILE = "tokenizer.json"


def read(path: Path) -> dict[str, Any]:
    """The file's values. Raises InputError where its model is not a WordPiece with `##`."""
    try:
        values = json.loads(path.read_text("utf-8"))
        model = values["model"]
        # Files of before the name was written hold a WordPiece where they hold its prefix.
        kind = model.get("type", "WordPiece" if "continuing_subword_prefix" in model else "?")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is no tokenizer of Hugging Face ({error}): mend it.") from error
    if kind != "WordPiece" or model.get("continuing_subword_prefix") != "##":
        raise InputError(
            f"{path} holds a {kind} tokenizer, and only WordPiece with ## is read from this file:"
            " give the vocab.txt or the SentencePiece .model of it."
        )
    return values


def vocabulary(path: Path, values: dict[str, Any]) -> dict[str, int]:
    """The pieces with their ids, added tokens left out."""
    try:
        return {piece: int(number) for piece, number in values["model"]["vocab"].items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} gives no pieces with ids: give the vocab.txt of it.") from error


def in_order(ids: dict[str, int], path: Path) -> list[str]:
    """Raises InputError where ids are left out: the table's rows would go to other pieces."""
    by_id: dict[int, str] = {}
    for piece, number in ids.items():
        by_id.setdefault(number, piece)  # what comes after are aliases of ours
    absent = sorted(set(range(len(by_id))) - by_id.keys())
    if absent:
        raise InputError(f"{path} gives no piece the id {absent[0]}: give it one.")
    return [by_id[number] for number in range(len(by_id))]


def settings(path: Path, values: dict[str, Any], *, chinese_words: bool) -> dict[str, Any]:
    """What of a tokenizer_config.json the file says too, under the keys of that.

    `chinese_words`: it is one of ours, that besides splits runs of Chinese. Raises InputError
    where text becomes words otherwise than BERT makes them. No sequence of NFD, Lowercase and
    StripAccents does as BERT: it keeps control characters, and strips more marks.
    """
    normalizers = _steps(values.get("normalizer"))
    if _types(normalizers) != ["BertNormalizer"]:
        raise _refusal(path, "normalizer", _types(normalizers), "BertNormalizer")
    (normalizer,) = normalizers
    if normalizer.get("clean_text") is not True:
        found = ["BertNormalizer without clean_text"]
        raise _refusal(path, "normalizer", found, "BertNormalizer with it")
    splits = _types(_steps(values.get("pre_tokenizer")))
    if splits != ["BertPreTokenizer", *(["Split"] if chinese_words else [])]:
        raise _refusal(path, "pre_tokenizer", splits, "BertPreTokenizer")
    return {
        "max_input_chars_per_word": values["model"].get("max_input_chars_per_word"),
        "do_lower_case": normalizer.get("lowercase"),
        "strip_accents": normalizer.get("strip_accents"),
        "tokenize_chinese_chars": normalizer.get("handle_chinese_chars"),
    }


def _steps(step: Any) -> list[dict[str, Any]]:
    """Of a sequence each step on its own; [] of none."""
    if not isinstance(step, dict):
        return []
    inner = step.get("normalizers", step.get("pretokenizers"))
    if step.get("type") != "Sequence" or not isinstance(inner, list):
        return [step]
    return [one for each in inner for one in _steps(each)]


def _types(steps: list[dict[str, Any]]) -> list[str]:
    return [str(step.get("type")) for step in steps]


def _refusal(path: Path, part: str, found: list[str], wanted: str) -> InputError:
    return InputError(
        f"{path} has the {part} {', '.join(found) or 'null'}, and only {wanted}, as BERT has it, is"
        " read from this file: give a tokenizer that has it."
    )
