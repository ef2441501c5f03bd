"""Held-out numbers of a finished run: a classifier's test rows, a pretraining's held-out rows."""

import dataclasses
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from bert_jax import workdir as wd
from bert_jax.config import FinetuneConfig, PretrainConfig
from bert_jax.data.labelled import Example, encode_texts, label_ids
from bert_jax.errors import InputError
from bert_jax.fields import Values, build
from bert_jax.tasks import classify, pretrain, saved_model
from bert_jax.tasks.classifier import Classifier, confusion, score
from bert_jax.text.labelled import read_labelled
from bert_jax.training.sharding import one_device_mesh

EVALUATION = "evaluation.json"

Config = TypeVar("Config", FinetuneConfig, PretrainConfig)


def run(config: Values, workdir: str | Path) -> dict[str, Any]:
    """Evaluates the run in `workdir`; prints the numbers and leaves them in evaluation.json.

    Everything is as the run was made, its rows too, so that no training row can become a
    test row. Of `config` only the task is read, and where other rows are named:
    `data.test` for a classifier, `data` for a pretraining.
    """
    found = saved_model.load(workdir)
    task = config.get("task", "prepare")
    if task != found.task:
        raise InputError(
            f"{workdir} holds a {found.task} run and the config is for {task}:"
            " give the config it was made with."
        )
    result = TASKS[found.task](config, found)
    wd.write_json(found.directory / EVALUATION, result)
    return result


def _made_with(cls: type[Config], config: Values, found: saved_model.SavedModel) -> Config:
    """The run's own config; a converted model has none beside its sizes, and takes the given."""
    if not found.is_converted:
        return build(cls, found.run["config"])
    own = {"init_from": str(found.directory), "model": dataclasses.asdict(found.model)}
    return build(cls, {**dict(config), **own})


def _evaluate_pretraining(config: Values, found: saved_model.SavedModel) -> dict[str, Any]:
    made_with = _made_with(PretrainConfig, config, found)
    metrics = pretrain.evaluate_heldout(made_with, found, config["data"])
    print(f"{found.directory}, step {found.step}, held-out rows")
    for name, value in metrics.items():
        print(f"  {name:20} {value:.4f}")
    return {"step": found.step, **metrics}


def _evaluate_classifier(config: Values, found: saved_model.SavedModel) -> dict[str, Any]:
    made_with = _made_with(FinetuneConfig, config, found)
    max_length = min(made_with.max_length, found.model.positions)
    test = config["data"]["test"] or made_with.data.test
    if found.is_converted and not test:
        raise InputError(
            f"config.data.test is empty, and {found.directory} was converted, so that nobody here"
            " knows its training rows: name the rows to evaluate on."
        )
    if found.is_converted:
        data = made_with.data
        rows = read_labelled(test, text_field=data.text_field, label_field=data.label_field)
    else:
        rows = classify.read_splits(dataclasses.replace(made_with.data, test=test))["test"]
    if not rows:
        raise InputError("config.data.test is empty: name the rows to evaluate on.")
    truth = np.array(label_ids(rows, found.labels))
    ids, _ = encode_texts([row.text for row in rows], found.tokenizer, max_length=max_length)
    classifier = Classifier(found.model, len(found.labels), one_device_mesh())
    probabilities = classifier.probabilities(
        found.params(classifier.param_shapes()),
        [Example(i, label) for i, label in zip(ids, truth.tolist(), strict=True)],
        batch_size=classify.EVAL_BATCH,
        max_length=max_length,
        pad=found.tokenizer.special.pad,
    )
    scores = score(truth, probabilities)
    right = scores["accuracy"]
    result = {
        "step": found.step,
        "rows": len(rows),
        **scores,
        "accuracy_error": (right * (1 - right) / len(rows)) ** 0.5,  # one standard error
        "labels": list(found.labels),
        "confusion": confusion(truth, probabilities),
    }
    _print_classifier(result, found)
    return result


def _print_classifier(result: dict[str, Any], found: saved_model.SavedModel) -> None:
    print(f"{found.directory}, step {found.step}, {result['rows']:,} test rows")
    print(f"  accuracy  {result['accuracy']:.2%} (standard error {result['accuracy_error']:.2%})")
    print(f"  macro F1  {result['macro_f1']:.2%}")
    print(f"  loss      {result['loss']:.4f} nats")
    print("  confusion (rows: true, columns: predicted)")
    print("    " + "".join(f"{label:>10}" for label in ("", *result["labels"])))
    for label, counts in zip(result["labels"], result["confusion"], strict=True):
        print("    " + f"{label:>10}" + "".join(f"{count:>10,}" for count in counts))


TASKS = {"pretrain": _evaluate_pretraining, "classify": _evaluate_classifier}
