"""Texts with choices, one of which is right."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from bert_jax.errors import InputError
from bert_jax.finetune_config import LabelledDataConfig
from bert_jax.text import files, suites
from bert_jax.text.labelled import of_contexts, of_one_label, once, texts_of


class ChoiceText(NamedTuple):
    text: str  # the context
    pair: str  # the question, or how every choice begins; "" = there is none
    choices: tuple[str, ...]
    label: int  # which is right, from 0
    where: str  # for messages, such as path:line


def read_choices(source: str, data: LabelledDataConfig) -> list[ChoiceText]:
    """All rows of a source of `read_labelled` but packages, in its own order.

    `data.choice_fields` is a field with a list, or a field for each choice, of which empty ones
    are choices that a row has not, but are counted by its label. A label is the number of the
    right choice from 0, its letter from A, or its text, which goes first.
    Raises InputError where something cannot be read, or if there is no row.
    """
    if not data.choice_fields:
        raise InputError(
            "config.data.choice_fields is empty: name the field that holds a list of the"
            " choices, or a field for each."
        )
    if files.scheme(source) == "pypi":
        raise InputError(f"{source} has no choices: name a file or tfds:NAME that has.")
    fields = (data.text_field, data.pair_field, data.label_field, data.id_field)
    rows = []
    records = suites.records(source, (*fields, *data.choice_fields), (), data)
    for where, record in once(records, data):
        text, pair = texts_of(record, data, where, may_be_empty=False)
        choices = choices_of(record, data.choice_fields, where)
        written = _written(record, data.choice_fields, where)
        value = files.field(record, data.label_field, where)
        place = _label(value, written, data.label_field, where)
        label = sum(map(_is_there, written[:place]))
        rows.append(ChoiceText(text, pair, choices, label, where))
    if not rows:
        raise InputError(f"{source} holds no row; give a source with rows in it.")
    return rows


def choices_of(record: dict[str, Any], names: Sequence[str], where: str) -> tuple[str, ...]:
    """From one field with a list, or from several. Raises InputError for fewer than two."""
    choices = _written(record, names, where)
    if len(names) > 1:
        choices = tuple(filter(_is_there, choices))
    check_choices(choices, where)
    return choices


def _written(record: dict[str, Any], names: Sequence[str], where: str) -> tuple[str, ...]:
    """With those that are empty."""
    if len(names) == 1:
        (name,) = names
        found = files.field(record, name, where)
        if isinstance(found, str | bytes) or not hasattr(found, "__iter__"):
            raise InputError(
                f"{where}: field {name!r} is {type(found).__name__}, not a list of choices; write"
                " one, or name a field for each choice."
            )
        return tuple(files.as_text(choice, name, where) for choice in found)
    values = [(name, files.field(record, name, where)) for name in names]
    return tuple("" if v is None else files.as_text(v, name, where) for name, v in values)


def _is_there(choice: str) -> bool:
    return bool(choice.strip())


def check_choices(choices: Sequence[str], where: str) -> None:
    """Raises InputError where there is nothing to choose from, or an empty choice."""
    if len(choices) < 2:
        raise InputError(f"{where} has {len(choices)} choices: give two or more.")
    for number, choice in enumerate(choices):
        if not _is_there(choice):
            raise InputError(f"{where}: choice {number}, counted from 0, is empty: fill it in.")


def split_by_context(rows: Sequence[ChoiceText]) -> dict[str, list[ChoiceText]]:
    """Train, validation and test, about 80, 10 and 10 %, cut by hash of the context's letters
    and digits, so that all questions of one are on one side. Of equal rows the first is kept,
    and none where their labels differ."""
    kept = of_one_label(rows, lambda row: row._replace(label=0, where=""))
    return of_contexts((row.text, row) for row in kept.values())


def _label(value: Any, choices: tuple[str, ...], name: str, where: str) -> int:
    value = value.item() if hasattr(value, "item") else value  # TFDS has arrays
    if isinstance(value, bytes):
        value = files.as_text(value, name, where)
    label = -1
    if isinstance(value, int) and not isinstance(value, bool):
        label = value
    elif isinstance(value, str) and _is_there(value) and choices.count(value) > 1:
        raise InputError(
            f"{where}: the label {value!r} in field {name!r} is the text of two choices: write"
            " its number, from 0."
        )
    elif isinstance(value, str):
        label = _number(value.strip(), value, choices)
    if not 0 <= label < len(choices):
        raise InputError(
            f"{where}: the label {value!r} in field {name!r} is none of the {len(choices)}"
            " choices: write its number from 0, its letter from A, or its text."
        )
    if not _is_there(choices[label]):
        raise InputError(
            f"{where}: the label {value!r} in field {name!r} names choice {label}, counted from"
            " 0, which is empty: correct the label, or fill the choice in."
        )
    return label


def _number(written: str, text: str, choices: tuple[str, ...]) -> int:
    """-1 where it is none."""
    if text in choices:
        return choices.index(text)
    if len(written) == 1 and "A" <= written.upper() <= "Z":
        return ord(written.upper()) - ord("A")
    return int(written) if written.isascii() and written.isdigit() else -1
