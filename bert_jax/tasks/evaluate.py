"""Held-out numbers of a finished run, and a report: a task's test rows, a pretraining's
held-out rows."""

import dataclasses
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from jaxtyping import PyTree

from bert_jax import workdir as wd
from bert_jax.config import PretrainConfig
from bert_jax.errors import InputError
from bert_jax.fields import Values, build
from bert_jax.finetune_config import FinetuneConfig, LabelledDataConfig, SubmissionConfig
from bert_jax.tasks import all_tasks, evaluation_report, pretrain, saved_model, scores, submission
from bert_jax.tasks.evaluation_report import Heading, Section, metric_table
from bert_jax.tasks.forward import Forward
from bert_jax.tasks.splits import read_test, test_source
from bert_jax.tasks.task import Task
from bert_jax.training.sharding import one_device_mesh

EVALUATION = "evaluation.json"
# The fields of a config that may say otherwise than the run's own record.
ROWS = ("data", "data.test", "data.columns", "data.further_tests", "submissions")

Config = TypeVar("Config", FinetuneConfig, PretrainConfig)


class Evaluation(NamedTuple):
    """What there is to write."""

    result: dict[str, Any]
    sections: list[Section]  # of the report
    files: dict[str, str]  # others than these, by name: submissions, what official scripts read
    outdated: tuple[str, ...] = ()  # what an evaluation before may have left and this does not make


def run(config: Values, workdir: str | Path, *, named: Collection[str] = ROWS) -> dict[str, Any]:
    """Evaluates the run in `workdir`; prints the numbers and leaves them in evaluation.json,
    and with them in report.md and report.html what there is to see of the rows.

    Everything is as the run was made, its rows too, so that no training row can become a
    test row. Of `config` only `task` and `submit` are read, and those of the fields ROWS that
    are `named`: `data.test`, `data.columns`, `data.further_tests` and `submissions` for a
    fine-tuning, `data` for a pretraining. From Python that is all of them, as whoever calls has
    put them there (an empty `data.test` or `data` is the run's, with its columns unless others
    are given); the command names those that its flags set, for what else a config file says of
    rows is its default and need not be of this run. A converted model has no record, and takes
    all of `config`.
    """
    found = saved_model.load(workdir)
    task = config.get("task", "prepare")
    if task != found.task:
        raise InputError(
            f"{workdir} holds a {found.task} run and the config is for {task}:"
            " give the config it was made with."
        )
    evaluate = _evaluate_pretraining if task == "pretrain" else _evaluate_task
    with wd.writing(workdir):
        wd.try_writing(found.directory)  # the rows may take an hour
    evaluation = evaluate(config, found, named)
    title = f"{found.task}: {found.directory.name}, step {found.step:,}"
    report = evaluation_report.files(title, evaluation.sections)
    result = {EVALUATION: wd.as_json(evaluation.result)}
    texts = {**report, **evaluation.files, **result}
    with wd.writing(workdir):
        wd.write_together({found.directory / name: text.encode() for name, text in texts.items()})
        for name in evaluation.outdated:
            (found.directory / name).unlink(missing_ok=True)
    for name in evaluation.files:
        print(f"{found.directory / name}")
    return evaluation.result


def _made_with(cls: type[Config], config: Values, found: saved_model.SavedModel) -> Config:
    """The run's own config; a converted model has none beside its sizes, and takes the given."""
    if not found.is_converted:
        return build(cls, found.run["config"])
    own = {"init_from": str(found.directory), "model": dataclasses.asdict(found.model)}
    return build(cls, {**dict(config), **own})


def with_rows(made_with: FinetuneConfig, config: Values, named: Collection[str]) -> FinetuneConfig:
    """With those of `config` where they are named."""
    given, data, submissions = config["data"], made_with.data, made_with.submissions
    if "data.test" in named and given["test"]:
        data = dataclasses.replace(data, test=given["test"])
    is_of_rows = given["test"] or "data.test" not in named
    if "data.columns" in named and (given["columns"] or is_of_rows):
        data = dataclasses.replace(data, columns=tuple(given["columns"]))
    if "data.further_tests" in named:
        data = dataclasses.replace(data, further_tests=tuple(given["further_tests"]))
    if "submissions" in named:
        submissions = tuple(build(SubmissionConfig, one) for one in config["submissions"])
    return dataclasses.replace(made_with, data=data, submissions=submissions)


def _evaluate_pretraining(
    config: Values, found: saved_model.SavedModel, named: Collection[str]
) -> Evaluation:
    made_with = _made_with(PretrainConfig, config, found)
    other = config["data"] if "data" in named else ""
    metrics = pretrain.evaluate_heldout(made_with, found, other)
    print(f"{found.directory}, step {found.step}, held-out rows")
    _print_numbers(metrics, {})
    table = metric_table(metrics, {}, "Held-out rows, masked as in the run.")
    return Evaluation({"step": found.step, **metrics}, [table], {})


def _evaluate_task(
    config: Values, found: saved_model.SavedModel, named: Collection[str]
) -> Evaluation:
    made_with = with_rows(_made_with(FinetuneConfig, config, found), config, named)
    data = made_with.data
    kind = all_tasks.named(found.task)
    wanted = made_with.submissions if config["submit"] else ()
    if config["submit"]:
        submission.check(kind, wanted, config["submissions"], found.directory)
    rows = _test_rows(kind, data, found)
    further = {source: kind.read(source, data) for source in data.further_tests}
    max_length = min(made_with.max_length, found.model.positions)
    # Shorter windows share as much of their length.
    overlap = made_with.window_overlap * max_length // made_with.max_length
    task = kind(found.labels, found.tokenizer, max_length, overlap)
    task.check_data(data)
    submissions = [submission.read(one, data, task) for one in wanted]
    forward = Forward(task, found.model, one_device_mesh())
    params = found.params(forward.param_shapes())
    source = test_source(data)
    result, sections, files = _evaluate_rows(forward, params, rows, data, found, source)
    result = {"test": source, **result}
    for source, rows in further.items():
        of_them = result.setdefault("further_tests", {})
        of_them[source], more, _ = _evaluate_rows(forward, params, rows, data, found, source)
        sections += [Heading(source, ""), *more]
    files |= {one.config.file: submission.text(one, forward, params) for one in submissions}
    return Evaluation(result, sections, files, tuple(set(kind.FILES) - set(files)))


def _evaluate_rows(
    forward: Forward,
    params: PyTree,
    rows: list[Any],
    data: LabelledDataConfig,
    found: saved_model.SavedModel,
    source: str,
) -> tuple[dict[str, Any], list[Section], dict[str, str]]:
    task = forward.task
    encoded = task.encode(rows)
    answers = forward.evaluate(params, rows, encoded.examples)
    metrics = task.score(rows, answers, data)
    errors = scores.standard_errors(
        lambda drawn: task.score([rows[n] for n in drawn], [answers[n] for n in drawn], data),
        len(rows),
    )
    result = {
        "step": found.step,
        "rows": len(rows),
        **metrics,
        **task.details(rows, answers),
        "standard_errors": errors,
    }
    numbers = {name: value for name, value in result.items() if isinstance(value, float)}
    print(f"{found.directory}, step {found.step}, {len(rows):,} rows of {source}")
    _print_numbers(numbers, errors)
    for line in task.report(result):
        print(f"  {line}")
    note = (
        f"{len(rows):,} rows of {source}. Standard errors are those of the bootstrap, over"
        f" {scores.RESAMPLES} draws of as many rows; of a trained model, not of its training."
    )
    table = metric_table(numbers, errors, note)
    return result, [table, *task.findings(rows, encoded, answers, data)], task.files(rows, answers)


def _test_rows(
    kind: type[Task], data: LabelledDataConfig, found: saved_model.SavedModel
) -> list[Any]:
    if found.is_converted and not data.test:
        raise InputError(
            f"config.data.test is empty, and {found.directory} was converted, so that nobody here"
            " knows its training rows: name the rows to evaluate on."
        )
    return read_test(kind, data)


def _print_numbers(metrics: dict[str, float], errors: dict[str, float]) -> None:
    for name, value in metrics.items():
        error = f" ± {errors[name]:.4f}" if name in errors else ""
        print(f"  {name:20} {value:.4f}{error}")
