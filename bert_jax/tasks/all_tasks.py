"""Every task there is, by its name in `config.task`. One's own is added here."""

import difflib

from bert_jax.errors import InputError
from bert_jax.tasks.choice import Choice
from bert_jax.tasks.classify import Classify
from bert_jax.tasks.multilabel import Multilabel
from bert_jax.tasks.regress import Regress
from bert_jax.tasks.span import SpanTask
from bert_jax.tasks.tag import TagWords
from bert_jax.tasks.task import Task

TASKS: dict[str, type[Task]] = {
    "classify": Classify,
    "multilabel": Multilabel,
    "regress": Regress,
    "tag": TagWords,
    "span": SpanTask,
    "choice": Choice,
}


def named(name: str) -> type[Task]:
    """Raises InputError where there is none of this name."""
    if name not in TASKS:
        near = difflib.get_close_matches(name, TASKS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(TASKS)}."
        raise InputError(f"config.task={name!r} is not known; {hint}")
    return TASKS[name]
