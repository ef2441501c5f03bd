"""The same fine-tuning with several seeds: a run for each, and what they come to together."""

import dataclasses
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from bert_jax import workdir as wd
from bert_jax.errors import Diverged
from bert_jax.finetune_config import FinetuneConfig
from bert_jax.tasks import saved_model
from bert_jax.tasks.evaluation_report import in_columns
from bert_jax.tasks.splits import TEST, TRAIN, VALIDATION
from bert_jax.tasks.tuning import Data, Program
from bert_jax.training.checkpoint import has_checkpoint
from bert_jax.training.sharding import replicated

SEEDS = "seeds.json"

Metrics = dict[str, float]


def run_seeds(
    config: FinetuneConfig,
    data: Data,
    program: Program,
    tune: Callable[[FinetuneConfig, Path], dict[str, Any]],
    workdir: Path,
) -> dict[str, Any]:
    """Runs `tune` for each seed under `workdir`, writes seeds.json and prints it as a table.

    One after the other: the first compiles for all, and of two seeds' batches the smaller would
    have to be padded for one program to take both. A seed that falls apart leaves the others
    to go on; raises Diverged where all do.
    """
    seeds = range(config.seed, config.seed + config.seeds)
    directories = {seed: workdir / f"seed_{seed}" for seed in seeds}
    # A single run's config is its own to the last field: no table may be put in its place.
    is_run = has_checkpoint(workdir)
    wd.check_config(
        workdir,
        config,
        is_begun=is_run or bool(wd.seed_runs(workdir)),
        may_change=() if is_run else ("seed", "seeds"),
    )
    tests = _tests(data, config)  # now: what is wrong with them is said before
    wd.write_config(workdir, config)
    found: dict[int, dict[str, Metrics]] = {}
    diverged = []
    for seed, directory in directories.items():
        print(f"seed {seed}: {directory}")
        try:
            with wd.locked(directory):
                best = tune(dataclasses.replace(config, seed=seed, seeds=1), directory)
        except Diverged as error:
            print(f"seed {seed}: {error}")
            diverged.append(seed)
            continue
        names = [name for name in data.task.METRICS if name in best]
        found[seed] = {VALIDATION: {name: best[name] for name in names}}
        if tests:
            params = saved_model.load(directory).params(program.forward.param_shapes())
            params = jax.device_put(params, replicated(program.mesh))
        for name, (rows, examples) in tests.items():
            answers = program.forward.evaluate(params, rows, examples)
            found[seed][name] = data.task.score(rows, answers, config.data)
    if not found:
        raise Diverged(
            f"all {config.seeds} seeds fell apart: lower config.optimizer.learning_rate and use a"
            " new --workdir."
        )
    higher = data.task.METRICS[config.metric]
    result = summary(found, diverged, blind_metrics(config, data), config.metric, higher=higher)
    with wd.writing(workdir):
        wd.write_json(workdir / SEEDS, result)
    print(table(result))
    return result


def _tests(data: Data, config: FinetuneConfig) -> dict[str, tuple[list[Any], list[Any]]]:
    """The rows to test with and their examples, by what the table calls them."""
    rows = {TEST: data.test} if data.test else {}
    for source in config.data.further_tests:
        rows[f"{TEST} {source}"] = data.task.read(source, config.data)
    return {name: (part, data.task.encode(part).examples) for name, part in rows.items()}


def blind_metrics(config: FinetuneConfig, data: Data) -> Metrics:
    """The validation metrics of one who knows the training labels and reads no text."""
    rows = data.rows[VALIDATION]
    return data.task.score(rows, data.task.blind(data.rows[TRAIN], rows), config.data)


def summary(
    found: Mapping[int, dict[str, Metrics]],
    diverged: Sequence[int],
    blind: Metrics,
    metric: str,
    *,
    higher: bool,
) -> dict[str, Any]:
    """Each seed, and their mean and standard deviation, that of a sample; None of one alone.

    A seed has collapsed where the metric of its best validation is no better than `blind`, or
    where it has `diverged` and has no metrics.
    """
    sign = 1 if higher else -1
    first = next(iter(found.values()))
    useless = [
        seed
        for seed, one in found.items()
        if sign * one[VALIDATION][metric] <= sign * blind[metric]
    ]

    def over_seeds(of: Callable[[list[float]], float | None]) -> dict[str, dict[str, Any]]:
        return {
            split: {name: of([one[split][name] for one in found.values()]) for name in metrics}
            for split, metrics in first.items()
        }

    return {
        "metric": metric,
        "seeds": found,
        "mean": over_seeds(statistics.fmean),
        "standard_deviation": over_seeds(
            lambda values: statistics.stdev(values) if len(values) > 1 else None
        ),
        "blind": blind,
        "collapsed": sorted([*diverged, *useless]),
    }


def table(result: Mapping[str, Any]) -> str:
    """A line for every metric of every split, and a warning of seeds that collapsed."""
    rows = [["", "mean", "std", *map(str, result["seeds"])]]
    for split, metrics in result["mean"].items():
        for name, mean in metrics.items():
            each = [one[split][name] for one in result["seeds"].values()]
            values = [mean, result["standard_deviation"][split][name], *each]
            rows.append([f"{split} {name}", *map(_cell, values)])
    lines = in_columns(rows)
    if result["collapsed"]:
        metric, seeds = result["metric"], ", ".join(map(str, result["collapsed"]))
        lines.append(
            f"warning: collapsed, with a validation {metric} no better than the"
            f" {result['blind'][metric]:.4f} of the label frequencies alone, or none that is"
            f" finite: seed {seeds};"
            " lower config.optimizer.learning_rate, or let it warm up longer."
        )
    return "\n".join(lines)


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
