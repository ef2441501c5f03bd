"""The rows to train on, to validate and to test with."""

from typing import Any

from bert_jax.errors import InputError
from bert_jax.finetune_config import LabelledDataConfig
from bert_jax.tasks.task import Task

TRAIN, VALIDATION, TEST = "train", "validation", "test"


def read_splits(
    task: type[Task], data: LabelledDataConfig, *, is_tested: bool
) -> dict[str, list[Any]]:
    """Rows of train, validation and test, as named or cut from train. Named test rows are read
    only where `is_tested`: nothing else wants them to be there."""
    if not data.train:
        raise InputError("config.data.train is empty: name a file, tfds:NAME or pypi:PACKAGE.")
    splits = {TRAIN: task.read(data.train, data)}
    if data.validation:
        splits |= {VALIDATION: task.read(data.validation, data), TEST: []}
    else:
        rows = splits[TRAIN]
        splits = task.split(rows)
        if left_out := len(rows) - sum(map(len, splits.values())):
            print(
                f"cut by hash: {left_out:,} of {len(rows):,} rows left out: texts that are there"
                " already, or with two labels, or without a letter"
            )
        if data.test:
            splits[TRAIN], splits[TEST] = splits[TRAIN] + splits[TEST], []
    if data.test and is_tested:
        splits[TEST] = task.read(data.test, data)
    for split in (TRAIN, VALIDATION):
        if not splits[split]:
            raise InputError(f"the {split} split of {data.train} holds no row: give it more.")
    return splits


def read_test(task: type[Task], data: LabelledDataConfig) -> list[Any]:
    """The rows of test alone; InputError where there are none."""
    if data.test:
        return task.read(data.test, data)
    if data.validation:
        raise InputError("config.data.test is empty: name the rows to evaluate on.")
    rows = task.split(task.read(data.train, data))[TEST]
    if not rows:
        raise InputError(f"the test split of {data.train} holds no row: name config.data.test.")
    return rows


def test_source(data: LabelledDataConfig) -> str:
    """Where `read_test` has its rows from, in words."""
    return data.test or f"the test part of {data.train}"


def labelled_rows(splits: dict[str, list[Any]], data: LabelledDataConfig) -> list[Any]:
    """Those that tell which labels there are: what stands in one source with the training rows
    is known with them, wherever a hash has put a rare label. Rows of other sources are not."""
    if data.validation:
        return splits[TRAIN]
    return [*splits[TRAIN], *splits[VALIDATION], *([] if data.test else splits[TEST])]


def untrained_labels(
    task: type[Task], splits: dict[str, list[Any]], data: LabelledDataConfig
) -> list[str]:
    """Those of `labelled_rows` that are in no training row: the model has an output for each
    that learns nothing but to be silent."""

    def found(rows: list[Any]) -> set[str]:
        return {label for row in rows for label in task.labels_of(row)}

    return sorted(found(labelled_rows(splits, data)) - found(splits[TRAIN]))
