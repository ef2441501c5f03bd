"""The rows to train on, to validate and to test with."""

from typing import Any

from bert_jax.config import LabelledDataConfig
from bert_jax.errors import InputError
from bert_jax.tasks.task import Task

TRAIN, VALIDATION, TEST = "train", "validation", "test"


def read_splits(task: type[Task], data: LabelledDataConfig) -> dict[str, list[Any]]:
    """Rows of train, validation and test, as named or cut from train."""
    if not data.train:
        raise InputError("config.data.train is empty: name a file, tfds:NAME or pypi:PACKAGE.")
    if not data.validation:
        splits = task.split(task.read(data.train, data))
        if data.test:
            splits[TRAIN] = splits[TRAIN] + splits[TEST]
            splits[TEST] = task.read(data.test, data)
    else:
        splits = {
            TRAIN: task.read(data.train, data),
            VALIDATION: task.read(data.validation, data),
            TEST: task.read(data.test, data) if data.test else [],
        }
    for split in (TRAIN, VALIDATION):
        if not splits[split]:
            raise InputError(f"the {split} split of {data.train} holds no row: give it more.")
    return splits
