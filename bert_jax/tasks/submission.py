"""Answers to a benchmark's test rows, in the form in which it takes them."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from jaxtyping import PyTree

from bert_jax.config import LabelledDataConfig, SubmissionConfig
from bert_jax.errors import InputError
from bert_jax.tasks.forward import Forward
from bert_jax.tasks.task import Text
from bert_jax.tasks.tuning import EVAL_BATCH
from bert_jax.text.labelled import read_unlabelled


def text(
    config: SubmissionConfig, data: LabelledDataConfig, forward: Forward, params: PyTree
) -> str:
    """What the file holds: a line for each row."""
    found = read_unlabelled(config.rows, data)
    task = forward.task
    rows = [task.row_of(Text(row.text, row.pair, row.where)) for _, row in found]
    answers = forward.answers(params, rows, task.encode(rows).examples, batch_size=EVAL_BATCH)
    said = [_said(task.shown(*one)) for one in zip(rows, answers, strict=True)]
    names = dict(pair.split("=", 1) for pair in config.written)
    lines = FORMS[config.form]([id for id, _ in found], [names.get(one, one) for one in said])
    return "".join(f"{line}\n" for line in lines)


def _said(shown: Mapping[str, Any]) -> str:
    if "label" in shown:
        return shown["label"]
    if "value" in shown:
        return f"{shown['value']:.3f}"
    raise InputError("config.submit=True is for config.task=classify or regress: set it to False.")


def _glue(ids: Sequence[str | int], said: Sequence[str]) -> list[str]:
    """In the order of the official file, whatever order the rows came in."""
    answers = {str(id): one for id, one in zip(ids, said, strict=True)}
    numbers = [str(number) for number in range(len(said))]
    if set(numbers) != set(answers):
        raise InputError(
            f"the rows of a submission to GLUE are numbered from 0 to {len(said) - 1}, and these"
            " are not: give all rows of the official file."
        )
    return ["index\tprediction", *(f"{number}\t{answers[number]}" for number in numbers)]


def _clue(ids: Sequence[str | int], said: Sequence[str]) -> list[str]:
    return [
        json.dumps({"id": id, "label": one}, ensure_ascii=False)
        for id, one in zip(ids, said, strict=True)
    ]


FORMS = {"glue": _glue, "clue": _clue}
