"""What the records of public suites need before they have a text, a second text and a label."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from bert_jax.errors import InputError
from bert_jax.finetune_config import LabelledDataConfig
from bert_jax.text import datasets, files

XNLI = ("sentence1", "sentence2", "gold_label")
RACE = ("questions", "options", "answers")

Change = Callable[[Iterator[files.Record], LabelledDataConfig], Iterator[files.Record]]


class Form(NamedTuple):
    change: Change
    fields: tuple[str, ...]  # what it looks for beside the fields of the config
    makes_fields: bool  # those of the config need not be there before it


def records(
    source: str, fields: Sequence[str], optional: Sequence[str], data: LabelledDataConfig
) -> Iterator[files.Record]:
    """The records of files or TFDS, as `data.form` has them; those of `fields` that are "" are
    none. Of `optional` a record has what is there. Raises InputError where something cannot be
    read."""
    form = FORMS[data.form]
    named = [name for name in fields if name]
    asked = ([], [*named, *form.fields]) if form.makes_fields else (named, form.fields)
    if files.scheme(source) == "tfds":
        found = datasets.rows(source)
    else:
        found = _from_files(source, asked[0], [*asked[1], *optional], data.columns)
    return form.change(found, data)


def _from_files(
    source: str, fields: Sequence[str], optional: Sequence[str], columns: Sequence[str]
) -> Iterator[files.Record]:
    for path in files.matching(source):
        yield from files.records(path, fields, optional, columns)


def _plain(records: Iterator[files.Record], data: LabelledDataConfig) -> Iterator[files.Record]:
    del data
    return records


def _whole(records: Iterator[files.Record], data: LabelledDataConfig) -> Iterator[files.Record]:
    """Without the rows that lack a text, of which QQP has some, as long as there are labels."""
    names = (data.text_field, data.pair_field)
    for where, record in records:
        found = [(name, files.field(record, name, where)) for name in names if name]
        texts = ["" if text is None else files.as_text(text, name, where) for name, text in found]
        if all(text.strip() for text in texts) or _is_unlabelled(record, data):
            yield where, record | {n: t for (n, _), t in zip(found, texts, strict=True)}


def _is_unlabelled(record: dict[str, Any], data: LabelledDataConfig) -> bool:
    return record.get(data.label_field, "") == ""  # TFDS's -1 has become that


def _agreed(records: Iterator[files.Record], data: LabelledDataConfig) -> Iterator[files.Record]:
    """Without the rows labelled `-`, on which those who were asked did not agree, as the
    baselines of CLUE have it (classifier_utils.py, CMNLIProcessor)."""
    return ((where, record) for where, record in records if record.get(data.label_field) != "-")


def _csl(records: Iterator[files.Record], data: LabelledDataConfig) -> Iterator[files.Record]:
    """The keywords, a list, joined with spaces (classifier_utils.py, CslProcessor)."""
    for where, record in records:
        words = files.field(record, data.text_field, where)
        if not isinstance(words, list):
            raise InputError(
                f"{where}: field {data.text_field!r} is {type(words).__name__}, not a list of"
                " keywords; write one, or set config.data.form=plain."
            )
        joined = " ".join(files.as_text(word, data.text_field, where) for word in words)
        yield where, record | {data.text_field: joined}


def _cluewsc(records: Iterator[files.Record], data: LabelledDataConfig) -> Iterator[files.Record]:
    """`_` around the noun and brackets around the pronoun that may stand for it
    (classifier_utils.py, WSCProcessor)."""
    for where, record in records:
        text = files.as_text(files.field(record, data.text_field, where), data.text_field, where)
        target = files.field(record, "target", where)
        marks = [
            mark
            for number, (before, after) in enumerate((("_", "_"), ("[", "]")), 1)
            for mark in _marks(text, target, f"span{number}", before, after, where)
        ]
        # From the end on, so that no mark moves another. At one place, what ends comes first.
        for place, _, mark in sorted(marks, reverse=True):
            text = text[:place] + mark + text[place:]
        yield where, record | {data.text_field: text}


def _marks(
    text: str, target: Any, span: str, before: str, after: str, where: str
) -> list[tuple[int, bool, str]]:
    """(place, whether a span begins there, mark)."""
    try:
        words, start = target[f"{span}_text"], target[f"{span}_index"]
        is_there = text[start : start + len(words)] == words and start >= 0
    except (KeyError, TypeError):
        is_there = False
    if not is_there:
        raise InputError(
            f"{where}: field 'target' names no {span}_text that the text has at {span}_index,"
            " counted from 0; correct it or drop the row."
        )
    return [(start, True, before), (start + len(words), False, after)]


def _xnli_zh(records: Iterator[files.Record], data: LabelledDataConfig) -> Iterator[files.Record]:
    """One form for the translated MultiNLI (premise, hypo, label) and for XNLI's own files
    (language, gold_label, sentence1, sentence2), of which the Chinese rows are kept."""
    names = (data.text_field, data.pair_field, data.label_field)
    for where, record in records:
        if "language" not in record:
            label = files.field(record, data.label_field, where)
            # As the translation calls it.
            known = "contradiction" if label == "contradictory" else label
            yield where, record | {data.label_field: known}
        elif record["language"] == "zh":
            values = [files.field(record, name, where) for name in XNLI]
            yield where, dict(zip(names, values, strict=True))


def _race(records: Iterator[files.Record], data: LabelledDataConfig) -> Iterator[files.Record]:
    """A record for each question of an article: `questions`, `options` and `answers` are lists
    there, and become the second text, the choices and the label (arXiv:1704.04683)."""
    names = (data.pair_field, *data.choice_fields, data.label_field)
    if len(names) != 3 or not data.pair_field:
        raise InputError(
            "config.data.form=race wants a name in config.data.pair_field and one in"
            " config.data.choice_fields: give any two that the rows have not."
        )
    for where, record in records:
        lists = [files.field(record, name, where) for name in RACE]
        are_lists = all(hasattr(found, "__len__") and not isinstance(found, str) for found in lists)
        if not are_lists or len({len(found) for found in lists}) > 1:
            raise InputError(
                f"{where}: questions, options and answers are no lists of the same length; correct"
                " them or drop the row."
            )
        for number, one in enumerate(zip(*lists, strict=True), 1):
            yield f"{where} question {number}", record | dict(zip(names, one, strict=True))


FORMS: dict[str, Form] = {
    "plain": Form(_plain, (), makes_fields=False),
    "whole": Form(_whole, (), makes_fields=False),
    "agreed": Form(_agreed, (), makes_fields=False),
    "csl": Form(_csl, (), makes_fields=False),
    "cluewsc": Form(_cluewsc, ("target",), makes_fields=False),
    "xnli_zh": Form(_xnli_zh, ("language", *XNLI), makes_fields=True),
    "race": Form(_race, RACE, makes_fields=True),
}
