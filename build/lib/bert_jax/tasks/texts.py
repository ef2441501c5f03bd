"""The texts `predict` is given in a file or on stdin: plain lines or records."""

from typing import Any

from bert_jax.errors import InputError
from bert_jax.tasks.predict import Text
from bert_jax.text import files

STDIN = "-"


def read_texts(path: str, *, text_field: str = "text") -> list[Text]:
    """Every text with its place; `-` is stdin, read as plain lines.

    `.jsonl`, `.csv`, `.tsv` and `.parquet` files are read by their field `text_field`; any
    other file holds one text a line, blank lines left out. Raises InputError naming the
    place, also of a record without text: leaving it out would shift the results against the
    records.
    """
    file = "/dev/stdin" if path == STDIN else path
    if files.suffix(file) in files.RECORDS:
        texts = [
            (_text(record, text_field, where), where)
            for where, record in files.records(file, [text_field])
        ]
    else:
        lines = ((line.text, f"{file}:{line.number}") for line in files.lines(file))
        texts = [(text, where) for text, where in lines if text.strip()]
    if not texts:
        raise InputError(f"{file} holds no text: give it at least one line.")
    return texts


def _text(record: dict[str, Any], text_field: str, where: str) -> str:
    text = files.as_text(files.field(record, text_field, where), text_field, where)
    if not text.strip():
        raise InputError(f"{where}: field {text_field!r} is empty; fill it in or drop the record.")
    return text
