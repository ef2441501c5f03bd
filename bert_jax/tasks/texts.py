"""The texts `predict` is given in a file or on stdin: plain lines, JSONL or CSV."""

from pathlib import Path

from bert_jax.errors import InputError
from bert_jax.tasks.predict import Text
from bert_jax.text import files, labelled

STDIN = "-"


def read_texts(path: str, *, text_field: str = "text") -> list[Text]:
    """Every text with its place; `-` is stdin, read as plain lines.

    `.jsonl`, `.csv` and `.tsv` files are read by their field `text_field`; any other file
    holds one text a line. Blank texts are left out. Raises InputError naming the place.
    """
    file = Path("/dev/stdin" if path == STDIN else path)
    if file.suffix in labelled.FORMATS:
        records = labelled.FORMATS[file.suffix](file)
        found = [
            (files.as_text(files.field(record, text_field, where), text_field, where), where)
            for where, record in records
        ]
    else:
        found = [(line.text, f"{file}:{line.number}") for line in files.lines(file)]
    texts = [(text, where) for text, where in found if text.strip()]
    if not texts:
        raise InputError(f"{file} holds no text: give it at least one line.")
    return texts
