"""Hugging Face's tokenizer_config.json: whether it cuts text as is done here."""

import json
from pathlib import Path
from typing import Any

from bert_jax.errors import InputError
from bert_jax.text import files, tokenizer_json
from bert_jax.text.pieces import SETTINGS_FILE

MODEL_FILE = "config.json"  # where older releases say the class
# Whose tokenizer in transformers is BERT's by another name.
AS_BERT = (
    *("Bert", "ConvBert", "DistilBert", "DPRContextEncoder", "DPRQuestionEncoder", "DPRReader"),
    *("Electra", "LayoutLM", "Lxmert", "MobileBert", "Realm", "RetriBert", "SqueezeBert"),
)
# They do what a tokenizer.json says, and nothing without one.
BY_FILE = ("PreTrainedTokenizerFast", "TokenizersBackend")
# Fields of slow tokenizers, with the value by which they cut text as BERT does.
WORDS_OF_BERT = {
    "do_basic_tokenize": True,
    "do_word_tokenize": True,
    "do_subword_tokenize": True,
    "word_tokenizer_type": "basic",
    "subword_tokenizer_type": "wordpiece",
}
# What is done to text before a SentencePiece model: by this class where no field says it.
BEFORE_MODEL = {
    "AlbertTokenizer": {"do_lower_case": True, "keep_accents": False},
    "XLNetTokenizer": {"do_lower_case": False, "keep_accents": False},
}
UNTOUCHED = {"do_lower_case": False, "keep_accents": True}


def read(directory: Path) -> dict[str, Any]:
    """What that of a directory says."""
    return read_object(directory / SETTINGS_FILE)


def check_wordpiece(directory: Path, values: dict[str, Any]) -> None:
    """Raises InputError where text becomes words, or words pieces, otherwise than in BERT."""
    name, path = _class(directory, values)
    is_by_file = name in BY_FILE and (directory / tokenizer_json.FILE).is_file()
    is_bert = name.endswith("Tokenizer") and name.removesuffix("Tokenizer") in AS_BERT
    if name and not is_by_file and not is_bert:
        beside = f" with the {tokenizer_json.FILE} it reads" if name in BY_FILE else ""
        raise InputError(
            f"{path} has the tokenizer_class {name}, of which it is not known that it cuts text as"
            f" BERT does: give a tokenizer{beside} that does, or take the field away if it does."
        )
    for field, wanted in WORDS_OF_BERT.items():
        if values.get(field) not in (None, wanted):
            raise InputError(
                f"{directory / SETTINGS_FILE} has {field} {json.dumps(values[field])}, and text is"
                f" cut as BERT does alone, by {json.dumps(wanted)}: give a tokenizer that has it."
            )


def check_sentence_piece(directory: Path, values: dict[str, Any]) -> None:
    """Raises InputError where text is changed before the .model sees it."""
    if "kind" in values:  # ours: the model does it all
        return
    name, path = _class(directory, values)
    said = {field: values[field] for field in UNTOUCHED if values.get(field) is not None}
    found = UNTOUCHED | BEFORE_MODEL.get(name, {}) | said
    wanted = {field: value for field, value in UNTOUCHED.items() if found[field] != value}
    if wanted:
        path = directory / SETTINGS_FILE if wanted.keys() <= said.keys() else path
        asked = " and ".join(f"{field} {json.dumps(found[field])}" for field in wanted)
        mend = " and ".join(json.dumps(value) for value in wanted.values())
        by = "" if wanted.keys() <= said.keys() else f", as {name} has it where it is not said"
        raise InputError(
            f"{path} has {asked}{by}, and nothing is done to text before the .model here: set it"
            f" to {mend} in {SETTINGS_FILE} to have the text as it is."
        )


def _class(directory: Path, values: dict[str, Any]) -> tuple[str, Path]:
    """The name of the tokenizer's class, its Fast taken off, or ""; and who says it."""
    for path, said in ((SETTINGS_FILE, values), (MODEL_FILE, read_object(directory / MODEL_FILE))):
        name = said.get("tokenizer_class")
        if name:
            name = str(name)
            slow = name if name in BY_FILE else name.removesuffix("Fast")
            return slow, directory / path
    return "", directory / SETTINGS_FILE


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object of a file, {} where there is none. Raises InputError if it is none."""
    if not path.is_file():
        return {}
    text = "\n".join(line.text for line in files.lines(path))
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{path}:{error.lineno} is not JSON ({error.msg}); mend it.") from error
    if not isinstance(values, dict):
        raise InputError(f"{path} is not a JSON object; mend it, or take it away.")
    return values
