"""Answers to a benchmark's test rows, in the form in which it takes them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxtyping import PyTree

from bert_jax.errors import InputError
from bert_jax.fields import Values
from bert_jax.finetune_config import LabelledDataConfig, SubmissionConfig
from bert_jax.tasks.classify import Classify
from bert_jax.tasks.forward import Forward
from bert_jax.tasks.regress import Regress
from bert_jax.tasks.task import Task, Text
from bert_jax.text.labelled import read_unlabelled


class Submission(NamedTuple):
    """The rows to answer, as the task has them, and the id of each."""

    config: SubmissionConfig
    ids: list[str | int]
    rows: list[Any]


def check(
    kind: type[Task],
    wanted: Sequence[SubmissionConfig],
    given: Sequence[Values],
    workdir: Path,
) -> None:
    """Raises InputError where there is nothing to submit. `wanted` are the submissions of the
    run in `workdir`, `given` those of the config at hand."""
    if not issubclass(kind, Classify | Regress):
        raise InputError(
            "config.submit=True is for config.task=classify or regress: set it to False."
        )
    if not wanted:
        mend = "give a config that has some, such as configs/finetune_glue.py:mrpc, and"
        rows = given[0]["rows"] if given else "tfds:glue/mrpc:test"
        raise InputError(
            f"config.submit=True, and {workdir} was made without config.submissions:"
            f" {'give' if given else mend} their rows as a flag,"
            f" --config.submissions[0].rows={rows}."
        )


def read(config: SubmissionConfig, data: LabelledDataConfig, task: Task) -> Submission:
    """Raises InputError where the rows cannot become a submission, before any is answered."""
    found = read_unlabelled(config.rows, data)
    ids = [id for id, _ in found]
    if config.form == "glue" and {str(id) for id in ids} != {str(n) for n in range(len(ids))}:
        raise InputError(
            f"the rows of a submission to GLUE are numbered from 0 to {len(ids) - 1}, and those of"
            f" {config.rows} are not: give all rows of the official file."
        )
    rows = [task.row_of(Text(row.text, row.pair, row.where)) for _, row in found]
    return Submission(config, ids, rows)


def text(submission: Submission, forward: Forward, params: PyTree) -> str:
    """What the file holds: a line for each row."""
    config, ids, rows = submission
    task = forward.task
    answers = forward.evaluate(params, rows, task.encode(rows).examples)
    said = [_said(task.shown(*one)) for one in zip(rows, answers, strict=True)]
    names = dict(pair.split("=", 1) for pair in config.written)
    lines = FORMS[config.form](ids, [names.get(one, one) for one in said])
    return "".join(f"{line}\n" for line in lines)


def _said(shown: Mapping[str, Any]) -> str:
    return shown["label"] if "label" in shown else f"{shown['value']:.3f}"


def _glue(ids: Sequence[str | int], said: Sequence[str]) -> list[str]:
    """In the order of the official file, whatever order the rows came in."""
    answers = {str(id): one for id, one in zip(ids, said, strict=True)}
    lines = (f"{number}\t{answers[str(number)]}" for number in range(len(said)))
    return ["index\tprediction", *lines]


def _clue(ids: Sequence[str | int], said: Sequence[str]) -> list[str]:
    return [
        json.dumps({"id": id, "label": one}, ensure_ascii=False)
        for id, one in zip(ids, said, strict=True)
    ]


FORMS = {"glue": _glue, "clue": _clue}
