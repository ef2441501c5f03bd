"""What a slice of TPUs will do with a pretraining, said by the TPU compiler beforehand."""

import contextlib
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bert_jax.config import PretrainConfig
from bert_jax.data import dataset
from bert_jax.errors import InputError
from bert_jax.fields import Values, build
from bert_jax.tasks import plan_report
from bert_jax.tasks.phases import Data, phase_configs
from bert_jax.tasks.plan_search import candidates, flags, nearest_that_fits, search
from bert_jax.tasks.planned_step import Rows
from bert_jax.tasks.slice_plan import Slice, SlicePlan, Work, mesh_for, plan_slice
from bert_jax.tasks.start import find_pretraining_start
from bert_jax.tasks.vocabulary import fit_vocabulary

# Taken where no data is prepared that says otherwise: the pieces of bert-base-uncased, and
# about as many sentence pairs as are packed into a row of 512 tokens. What hangs on the latter,
# pooler and next-sentence head, is a thousandth of the step.
VOCABULARY = 30_522
INSTANCES = 8


def run(
    config: Values, topologies: Sequence[str], *, fast: bool, search_for: bool, as_json: bool
) -> list[dict[str, Any]]:
    """Prints a plan (config fields: PretrainConfig) for each slice, such as v5e:4x4.

    Returns what is printed `as_json`. Raises InputError where the run would not run on a slice,
    before any is planned; and after the plans there are have been printed, where one does not
    fit, with the bytes and what would fit.

    The devices here take no part; that jax leaves them alone is for the caller to say, as the
    command does with jax_platforms=cpu.
    """
    work, notes = _work(build(PretrainConfig, config))
    if not topologies:
        raise InputError("--topology names no slice: write VERSION:SHAPE, such as v5e:4x4.")
    slices = [Slice.named(topology) for topology in topologies]
    for each in slices:
        _check(work, each, search_for=search_for)
    found, refusals = [], []
    plan = search if search_for else _as_asked
    for each in slices:
        try:
            found.append(plan(work, each, fast=fast))
        except InputError as error:  # compiling the others took minutes
            refusals.append(str(error))
    plans = [each for _, each in found]
    numbers = [plan.numbers() for plan in plans]
    if search_for:
        for each, (better, _) in zip(numbers, found, strict=True):
            each["flags"] = flags(work.config, better.config)
            said = each["flags"] or "nothing tried is faster than the config as it is."
            notes.append(f"{each['topology']}: {said}")
    notes += filter(None, map(_cut, plans))
    if plans:
        print(json.dumps(numbers, indent=2) if as_json else plan_report.table(plans, notes))
    refusals += [_refusal(work, each, fast=fast) for each in plans if not each.fits]
    if refusals:
        raise InputError(" ".join(refusals))
    return numbers


def _check(work: Work, where: Slice, *, search_for: bool) -> None:
    """Raises InputError where nothing that is asked for would run there, and says where."""
    try:
        if search_for:
            candidates(work, where)
        else:
            mesh_for(work, where)
    except InputError as error:
        raise InputError(f"{where.topology}: {error}") from error


def _as_asked(work: Work, where: Slice, *, fast: bool) -> tuple[Work, SlicePlan]:
    return work, plan_slice(work, where, fast=fast)


def _work(config: PretrainConfig) -> tuple[Work, list[str]]:
    """The config with its model's sizes, the rows of its phases, and what was assumed."""
    with contextlib.redirect_stdout(sys.stderr):  # it says whose sizes, and stdout may be JSON's
        config, _ = find_pretraining_start(config, None)
    notes, rows, model = [], [], config.model
    for number, phase in enumerate(phase_configs(config)):
        if number and not phase.data:
            rows.append(rows[-1])
            continue
        field = f"config.then[{number - 1}].data" if number else "config.data"
        if phase.data and (Path(phase.data) / dataset.MANIFEST).is_file():
            data = Data.open(phase.data, field=field)
            data.check_length(config)
            model = fit_vocabulary(model, data.tokenizer)
            rows.append(Rows(data.length, data.manifest["max_instances"]))
        else:
            rows.append(Rows(config.model.positions, INSTANCES))
            notes.append(
                f"{field} is not prepared: rows of config.model.positions={rows[-1].length} tokens"
                f" and {INSTANCES} instances are assumed."
            )
    if not model.vocab_size:
        model = dataclasses.replace(model, vocab_size=VOCABULARY)
        notes.append(f"Assumed is a vocabulary of {VOCABULARY:,} pieces.")
    return Work(dataclasses.replace(config, model=model), tuple(rows)), notes


def _cut(plan: SlicePlan) -> str:
    """What a reader is told where the time is up before the steps are."""
    done, steps = sum(plan.counts()), sum(step.phase.steps for step in plan.steps)
    if done == steps:
        return ""
    return (
        f"{plan.slice.topology}: config.budget_minutes={plan.steps[0].config.budget_minutes:g}"
        f" leaves time for {done:,} of {steps:,} steps, and fewer for what else a run does: it"
        " starts, compiles, evaluates and saves."
    )


def _refusal(work: Work, plan: SlicePlan, *, fast: bool) -> str:
    """One sentence: how much is missing, and what would fit."""
    said = f"a chip of {plan.slice.topology} has {plan.missing_bytes:,} bytes too few for this step"
    nearest = nearest_that_fits(work, plan, fast=fast)
    if nearest is None:
        return (
            f"{said}, and no microbatches, remat or mesh tried helps: take more chips and shard"
            " over them with config.mesh.fsdp, or chips with more memory."
        )
    better, fitting = nearest
    size = fitting.numbers()["bytes_per_chip"] / plan_report.GIB
    return f"{said}: with {flags(work.config, better.config)} it needs {size:.2f} GiB and fits."
