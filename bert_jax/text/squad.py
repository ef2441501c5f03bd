"""Questions on contexts and the answers that stand there: SQuAD's JSON, and rows like it."""

import json
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from bert_jax.errors import InputError
from bert_jax.finetune_config import LabelledDataConfig
from bert_jax.text import datasets, files
from bert_jax.text.labelled import of_contexts

JSON = ".json"
IMPOSSIBLE = "is_impossible"
ROWS = (".jsonl", files.PARQUET)  # a table's cell holds no list of answers
CMRC_CONTEXT = "context_text"
NOWHERE = -1  # of an answer after the first, which is right as a text alone
LONGEST_SHOWN = 60  # characters of an answer in a message


class _Form(NamedTuple):
    """How a JSON file names its parts."""

    name: str
    parts: str


SQUAD = _Form(
    "SQuAD", "data[].paragraphs[] with context and qas[], and these with id, question and answers"
)
CMRC = _Form(
    "CMRC2018",
    "a list of context_text and qas[], and these with query_id, query_text and answers[]",
)


class Answer(NamedTuple):
    text: str
    start: int  # characters of the context before it, or NOWHERE


class Question(NamedTuple):
    id: str
    context: str
    question: str
    answers: tuple[Answer, ...]  # any of them is right; () = the context has none
    where: str  # for messages: the file, and the line or the id


class _Raw(NamedTuple):
    """A question as it was found, nothing of it checked."""

    id: str
    context: Any
    question: Any
    answers: list[tuple[Any, Any]]  # text, start
    where: str
    place: str  # where another question of this id is


def read_questions(source: str, data: LabelledDataConfig) -> list[Question]:
    """All questions of one source, in its own order.

    A source is a path or glob, local or gs://, of .json files in the form of SQuAD 1.1 or 2.0
    (DRCD has it too, and CMRC2018 has been published in it) or in that of CMRC2018 itself, of
    .jsonl or .parquet files with the fields of `data`, or `tfds:NAME[:VERSION][:SPLIT]`. In rows
    the answers are a list of {text, answer_start}, or both as lists. Where `is_impossible` is
    true there are none, whatever stands there.
    The first answer stands at its answer_start, for training learns it; of the others that do
    not the text is right all the same. CMRC2018 itself says no place: there the first answer is
    one that stands in the context, at the first place where it does.
    Raises InputError where something cannot be read, or if there is no question.
    """
    kind = files.scheme(source)
    if kind == "pypi":
        raise InputError(f"{source}: no package holds questions; give files or tfds:NAME.")
    is_file = kind != "tfds"
    found = _from_files(source, data) if is_file else _from_rows(datasets.rows(source), data)
    questions = [_checked(raw, data.answer_shift) for raw in _once(found)]
    if not questions:
        raise InputError(f"{source} holds no question; give a source with questions in it.")
    return questions


def split_by_context(rows: Sequence[Question]) -> dict[str, list[Question]]:
    """Train, validation and test, about 80, 10 and 10 %, cut by hash of the context's letters
    and digits, so that all questions of one are on one side."""
    return of_contexts((row.context, row) for row in rows)


def _from_files(source: str, data: LabelledDataConfig) -> Iterator[_Raw]:
    fields = (data.id_field, data.text_field, data.pair_field, data.label_field)
    for path in files.matching(source):
        files.check_suffix(path, (JSON, *ROWS))
        if files.suffix(path) == JSON:
            yield from _from_json(path)
        else:
            named = [name for name in fields if name]
            yield from _from_rows(files.records(path, named, (IMPOSSIBLE,)), data)


def _from_json(path: str) -> Iterator[_Raw]:
    whole = _whole(path)
    first = whole[0] if isinstance(whole, list) and whole else None
    if isinstance(first, dict) and CMRC_CONTEXT in first:
        return _from_cmrc(whole, path)
    return _from_squad(whole, path)


def _from_squad(whole: Any, path: str) -> Iterator[_Raw]:
    for article, at in _items(whole, "data", path, "it", SQUAD):
        for paragraph, at_paragraph in _items(article, "paragraphs", path, at, SQUAD):
            context = _part(paragraph, "context", path, at_paragraph, SQUAD)
            for question, at_question in _items(paragraph, "qas", path, at_paragraph, SQUAD):
                name = str(_part(question, "id", path, at_question, SQUAD))
                where = f"{path}, question {name}"
                is_impossible = question.get(IMPOSSIBLE, False)
                answers = (
                    [] if is_impossible else _part(question, "answers", path, at_question, SQUAD)
                )
                asked = _part(question, "question", path, at_question, SQUAD)
                found = _pairs(answers, "answers", where)
                yield _Raw(name, context, asked, found, where, f"{path}, {at_question}")


def _from_cmrc(whole: list[Any], path: str) -> Iterator[_Raw]:
    for number, paragraph in enumerate(whole):
        at = f"[{number}]"
        context = _part(paragraph, CMRC_CONTEXT, path, at, CMRC)
        for question, at_question in _items(paragraph, "qas", path, at, CMRC):
            name = str(_part(question, "query_id", path, at_question, CMRC))
            where = f"{path}, question {name}"
            asked = _part(question, "query_text", path, at_question, CMRC)
            texts = [text for text, _ in _items(question, "answers", path, at_question, CMRC)]
            context = _text(context, "context", where)
            found = [_standing(_text(text, "answer", where), context) for text in texts]
            # Those that stand nowhere come last, for the first one is learnt.
            found.sort(key=lambda answer: answer[1] == NOWHERE)
            yield _Raw(name, context, asked, found, where, f"{path}, {at_question}")


def _standing(text: str, context: str) -> tuple[str, int]:
    """An answer and its first place, without the spaces around it where it stands so alone."""
    place = context.find(text)
    return (text, place) if place != NOWHERE else (text.strip(), context.find(text.strip()))


def _whole(path: str) -> Any:
    try:
        return json.loads("\n".join(line.text for line in files.lines(path)))
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path}:{error.lineno} is not JSON ({error.msg} at character {error.colno});"
            " mend it, or get the file again."
        ) from error
    except (ValueError, RecursionError) as error:  # a number or a nesting beyond Python's
        raise InputError(f"{path} cannot be read as JSON ({error}); mend it.") from error


def _part(node: Any, name: str, path: str, at: str, form: _Form) -> Any:
    if not isinstance(node, dict) or name not in node:
        raise InputError(
            f"{path} is not in the form of {form.name}: {at} has no {name!r}; give {form.parts}."
        )
    return node[name]


def _items(node: Any, name: str, path: str, at: str, form: _Form) -> Iterator[tuple[Any, str]]:
    """The items of a list, each with its place in the file."""
    items = _part(node, name, path, at, form)
    if not isinstance(items, list):
        raise InputError(
            f"{path} is not in the form of {form.name}: {name!r} of {at} is no list; give"
            f" {form.parts}."
        )
    for number, item in enumerate(items):
        yield item, f"{'' if at == 'it' else f'{at}.'}{name}[{number}]"


def _from_rows(records: Iterable[files.Record], data: LabelledDataConfig) -> Iterator[_Raw]:
    for where, record in records:
        name, place = where, where
        if data.id_field:
            name = files.field(record, data.id_field, where)
            name = name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
            where = f"{where}, question {name}"
        answers = files.field(record, data.label_field, where)
        yield _Raw(
            name,
            files.field(record, data.text_field, where),
            files.field(record, data.pair_field, where),
            [] if record.get(IMPOSSIBLE) else _pairs(answers, data.label_field, where),
            where,
            place,
        )


def _pairs(answers: Any, name: str, where: str) -> list[tuple[Any, Any]]:
    """Text and start of each."""
    keys = ("text", "answer_start")
    if isinstance(answers, Mapping):
        columns = [answers.get(key) for key in keys]
        if all(map(_is_list, columns)) and len(columns[0]) == len(columns[1]):
            return list(zip(*columns, strict=True))
    elif _is_list(answers) and all(
        isinstance(one, Mapping) and set(keys) <= one.keys() for one in answers
    ):
        return [(one["text"], one["answer_start"]) for one in answers]
    raise InputError(
        f"{where}: field {name!r} holds no answers; give a list, and for each its text and its"
        " answer_start."
    )


def _is_list(value: Any) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping)


def _once(questions: Iterable[_Raw]) -> Iterator[_Raw]:
    """The questions; raises InputError where two have one id."""
    seen: dict[str, str] = {}
    for raw in questions:
        if raw.id in seen:
            raise InputError(
                f"{raw.where}: the id {raw.id!r} is also that of {seen[raw.id]}; drop one of the"
                " two, or correct it."
            )
        seen[raw.id] = raw.place
        yield raw


def _checked(raw: _Raw, shift: int) -> Question:
    context = _text(raw.context, "context", raw.where)
    question = _text(raw.question, "question", raw.where)
    answers = []
    for text, start in raw.answers:
        text = _text(text, "answer", raw.where)
        place = _place(text, start, context, shift, raw.where)
        if place == NOWHERE and not answers:
            _refuse(text, start, context, raw.where)
        answers.append(Answer(text, place))
    return Question(raw.id, context, question, tuple(answers), raw.where)


def _text(value: Any, name: str, where: str) -> str:
    text = files.as_text(value, name, where)
    if not text.strip():
        raise InputError(f"{where}: the {name} is empty; fill it in, or drop the question.")
    return text


def _place(text: str, start: Any, context: str, shift: int, where: str) -> int:
    """`shift`: how many characters before `start` it may begin."""
    try:
        start = operator.index(start)
    except TypeError:
        raise InputError(
            f"{where}: answer_start is {start!r}, no whole number; count the characters before"
            " the answer."
        ) from None
    for first in range(start, start - shift - 1, -1):
        if first >= 0 and context.startswith(text, first):
            return first
    return NOWHERE


def _refuse(text: str, start: Any, context: str, where: str) -> None:
    """Raises InputError."""
    if start == NOWHERE and text not in context:
        raise InputError(
            f"{where}: the answer {text[:LONGEST_SHOWN]!r} stands nowhere in its context; correct"
            " one of the two, or drop the question."
        )
    stands = repr(context[max(start, 0) : max(start, 0) + len(text)][:LONGEST_SHOWN]) + " stands"
    if not 0 <= start < len(context):
        stands = f"a context of {len(context)} characters has none"
    found = context.find(text)
    mend = "correct one of the two, or drop the question"
    if found >= 0:
        mend = f"it is at character {found}: correct answer_start"
    raise InputError(
        f"{where}: the answer {text[:LONGEST_SHOWN]!r} is not at character {start} of its context,"
        f" where {stands}; {mend}."
    )
