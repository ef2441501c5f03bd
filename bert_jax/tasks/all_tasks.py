"""Every task there is, by its name in `config.task`. One's own is added here."""

from bert_jax.errors import InputError
from bert_jax.fields import hint
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
        raise InputError(f"config.task={name!r} is not known; {hint(name, TASKS)}")
    return TASKS[name]
