"""The texts `predict` is given in a file or on stdin: plain lines or records."""

from collections.abc import Sequence
from typing import Any

from bert_jax.errors import InputError
from bert_jax.tasks.task import Text
from bert_jax.text import files
from bert_jax.text.choices import choices_of

STDIN = "-"


def read_texts(
    path: str,
    *,
    text_field: str,
    pair_field: str,
    choices_fields: Sequence[str],
    columns: Sequence[str] = (),
) -> list[Text]:
    """Every text with its place; `-` is stdin, read as plain lines.

    `.jsonl`, `.csv`, `.tsv` and `.parquet` files are read by their field `text_field`, by
    `pair_field` where the texts are pairs and `choices_fields`, one with a list or one for each,
    where they have choices; a table without a header line has its fields called `columns`.
    Any other file holds one text a line, blank lines left out. Raises InputError naming the
    place, also of a record without text: leaving it out would shift the results against the
    records.
    """
    file = "/dev/stdin" if path == STDIN else path
    if files.suffix(file) in files.RECORDS:
        fields = [name for name in (text_field, pair_field, *choices_fields) if name]
        texts = [
            Text(
                _text(record, text_field, where),
                _text(record, pair_field, where) if pair_field else "",
                where,
                choices_of(record, choices_fields, where) if choices_fields else (),
            )
            for where, record in files.records(file, fields, columns=columns)
        ]
    elif pair_field or choices_fields or columns:
        given = {
            "--pair_field": pair_field,
            "--choices_field": ",".join(choices_fields),
            "--columns": ",".join(columns),
        }
        flag = next(f"{name}={value}" for name, value in given.items() if value)
        raise InputError(
            f"{flag} is for records, and {file} holds lines: give a file that"
            f" ends in one of {', '.join(files.RECORDS)}."
        )
    else:
        lines = ((line.text, f"{file}:{line.number}") for line in files.lines(file))
        texts = [Text(text, "", where) for text, where in lines if text.strip()]
    if not texts:
        raise InputError(f"{file} holds no text: give it at least one line.")
    return texts


def _text(record: dict[str, Any], name: str, where: str) -> str:
    text = files.as_text(files.field(record, name, where), name, where)
    if not text.strip():
        raise InputError(f"{where}: field {name!r} is empty; fill it in or drop the record.")
    return text
