"""Fine-tuning for a task: checks, the start, the data, and a run for each seed."""

import dataclasses
from pathlib import Path
from typing import Any

import jax

from bert_jax import workdir as wd
from bert_jax.errors import InputError
from bert_jax.fields import Values, build
from bert_jax.finetune_config import FinetuneConfig
from bert_jax.tasks import all_tasks, plots
from bert_jax.tasks.seeds import run_seeds
from bert_jax.tasks.start import find_start
from bert_jax.tasks.tuning import Data, Tuning, make_program
from bert_jax.training.checkpoint import has_checkpoint
from bert_jax.training.sharding import check_batch, make_mesh


def run(config: Values, workdir: str | Path) -> dict[str, Any]:
    """Fine-tunes (fields: FinetuneConfig) and returns the best validation metrics; of several
    seeds, what stands in seeds.json.

    Continues an interrupted run from its last evaluation; returns at once from a
    finished one.
    """
    if jax.process_count() > 1:
        raise InputError(
            f"fine-tuning runs in one process and here are {jax.process_count()}: start one."
        )
    config = build(FinetuneConfig, config)
    task = all_tasks.named(config.task)
    task.check(config)
    start = find_start(config)
    init_from = config.init_from if start.pretrained is None else str(start.pretrained.directory)
    config = dataclasses.replace(config, init_from=init_from, model=start.model)
    mesh = make_mesh(config.mesh)
    check_batch(mesh, config.batch_size)
    data = Data.open(task, config, start)
    program = make_program(config, data, mesh)

    def tune(config: FinetuneConfig, directory: Path) -> dict[str, Any]:
        # Where seeds lie below, the config and the table above them are of all of them.
        is_begun = has_checkpoint(directory) or bool(wd.seed_runs(directory))
        wd.check_config(directory, config, is_begun=is_begun)
        best = Tuning(config, start, data, program, directory).go()
        plots.draw_curves(directory)
        return best

    with wd.locked(workdir) as directory:
        if config.seeds > 1:
            return run_seeds(config, data, program, tune, directory)
        return tune(config, directory)
