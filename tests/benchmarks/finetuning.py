r"""The same fine-tuning with bert_jax and with Hugging Face PyTorch on the CPU, seed by seed.

    pip install -e .[peers]
    python -m tests.benchmarks.starts --to=runs/starts
    python -m tests.benchmarks.finetuning --task=chinese_sentiment --init_from=runs/starts/l2h512 \
        --workdir=runs/compare/chinese_sentiment

`--task` is one of real_tasks.py; in its place, a config such as
`--config=configs/finetune_sentiment.py --config.model.compute_dtype=float32`. Either takes
`--config.FIELD=VALUE`; `--rows` cuts the training rows by hash, 0 = all.

Both begin with the encoder of one workdir (theirs exported by bert_jax.convert), with a fresh
head for each seed, and read the same token ids. Batch size, epochs, learning rate, warm-up and
decay, AdamW with bias correction, what is not decayed, clipping, dropout, the steps at which is
validated and the metric that chooses among them are the same; test metrics are those of the
chosen one, by our definitions. They differ in the order of the rows and in what is drawn: the
fresh head's numbers and what is dropped. The batches of both are random: theirs
are padded to the longest row, as the Trainer does by default (`--group_by_length` as it does on
request), ours packed. Each run is a process of its own, and the systems take turns, so that a slow
phase of the machine meets both. Results stay in the workdir as JSON and are not computed again
while everything that makes them is the same.
"""

import dataclasses
import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from absl import flags

from bert_jax import cli
from bert_jax import workdir as wd
from bert_jax.data.epochs import batches_per_epoch
from bert_jax.errors import InputError
from bert_jax.fields import build, one_of
from bert_jax.finetune_config import FinetuneConfig
from bert_jax.tasks import conversion
from bert_jax.tasks.splits import TRAIN
from tests.benchmarks import real_tasks
from tests.benchmarks.finetuned.report import NAMES, Result, report
from tests.benchmarks.finetuned.rows import digest, open_rows, write
from tests.benchmarks.made_by import OUR_CODE, made_by

# The packages of each.
SYSTEMS = {"ours": ("jax", "jaxlib", "flax"), "theirs": ("torch", "transformers")}
CODE = (*OUR_CODE, "tests/benchmarks/finetuned")
# What theirs is: of another value there is no counterpart.
SHARED: dict[str, Any] = {
    "model.compute_dtype": "float32",
    "optimizer.name": "adam",
    "optimizer.bias_correction": True,
    "optimizer.schedule": "linear",
    "optimizer.not_decayed": r"(bias|scale)$",
    "freeze_embeddings": False,
    "freeze_layers": 0,
    "layer_decay": 1.0,
    "head_steps": 0,
    "class_weights": "none",
}
# Of theirs there are these.
TASKS = ("classify", "multilabel", "regress", "tag")


def check_shared(config: FinetuneConfig) -> None:
    """Raises InputError for what only one of the two could do."""
    one_of(config, "task", TASKS)
    for name, wanted in SHARED.items():
        value = functools.reduce(getattr, name.split("."), config)
        if value != wanted:
            raise InputError(
                f"config.{name}={value!r} has no counterpart in the other system: set it to"
                f" {wanted!r}."
            )


def kept(path: Path, settings: dict[str, Any]) -> Result | None:
    """The result there, if these settings made it."""
    if not path.exists():
        return None
    found = json.loads(path.read_text("utf-8"))
    return Result.of(found["result"]) if found["settings"] == settings else None


def run_seed(system: str, spec: dict[str, Any], path: Path) -> Result:
    """In a process of its own, unless its result is there."""
    settings = json.loads(json.dumps(spec | {"made_by": made_by(SYSTEMS[system], CODE)}))
    if (found := kept(path, settings)) is not None:
        return found
    files = {name: path.with_suffix(f".{name}") for name in ("spec", "result", "log")}
    wd.write_json(files["spec"], spec)
    command = [sys.executable, "-m", f"tests.benchmarks.finetuned.{system}"]
    command += [str(files["spec"]), str(files["result"])]
    with files["log"].open("w") as log:
        environment = os.environ | {"JAX_PLATFORMS": "cpu"}
        done = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
    if done.returncode:
        raise InputError(f"{' '.join(command)} ended with {done.returncode}: see {files['log']}.")
    result = json.loads(files["result"].read_text("utf-8"))
    wd.write_json(path, {"settings": settings, "result": result})
    for name in ("spec", "result"):
        files[name].unlink()
    return Result.of(result)


def export(init_from: str, directory: Path) -> tuple[str, str]:
    """The tensors of the workdir for transformers: where they are, and their hash."""
    shutil.rmtree(directory, ignore_errors=True)
    rest = dict(model_config="", tokenizer="", allow_missing="", allow_unknown="", add_words="")
    conversion.run(
        conversion.Options(
            source=init_from, to=str(directory), format="huggingface", positions=0, **rest
        )
    )
    weights = (directory / "model.safetensors").read_bytes()
    return str(directory), hashlib.sha256(weights).hexdigest()


def define_flags() -> flags.FlagHolder:
    """The flags of this command; gives that of the config."""
    flags.DEFINE_string("init_from", None, "A converted workdir, or one of a run.", required=True)
    flags.DEFINE_string("workdir", None, "Where results stay.", required=True)
    flags.DEFINE_integer("seeds", 5, "Runs of each system.", lower_bound=1)
    flags.DEFINE_integer("rows", None, "Training rows, cut by hash; 0 = all.")
    flags.DEFINE_enum("only", None, list(SYSTEMS), "One of the systems alone.")
    flags.DEFINE_bool("group_by_length", False, "Theirs has batches of near-equal lengths.")
    return cli.define_config()


def compare(values: dict[str, Any], directory: Path) -> None:
    """Runs what is not there, and prints the table."""
    given = flags.FLAGS
    most = values.pop("benchmark", {})
    if given.rows is not None:
        most[TRAIN] = given.rows
    init_from = str(Path(given.init_from).absolute())
    config = build(FinetuneConfig, values | {"init_from": init_from, "seeds": 1})
    check_shared(config)
    config, said = write(config, most, directory / "rows")
    data = open_rows(config)
    steps_per_epoch = batches_per_epoch(len(data.examples[TRAIN]), config.batch_size)
    rows = ", ".join(f"{split} {count}" for split, count in said.items())
    heading = [
        f"{config.task}, {len(data.task.labels)} labels, from {given.init_from}; rows: {rows}",
        f"{config.epochs} epochs of {steps_per_epoch} batches of {config.batch_size}, to"
        f" {config.max_length} tokens, learning rate {config.optimizer.learning_rate:g};"
        f" {len(os.sched_getaffinity(0))} cores; batches of Hugging Face"
        f" {'by length' if given.group_by_length else 'random'}",
    ]
    print("\n".join(heading))
    start, weights = export(init_from, directory / "start")
    shared = {"start": start, "weights": weights, "rows": digest(config)}
    systems = [given.only] if given.only else list(SYSTEMS)
    results: dict[str, dict[int, Result]] = {system: {} for system in systems}
    for seed in range(config.seed, config.seed + given.seeds):
        spec = shared | {"config": dataclasses.asdict(dataclasses.replace(config, seed=seed))}
        for system in systems:
            own = {"group_by_length": given.group_by_length} if system == "theirs" else {}
            path = directory / f"{system}_seed_{seed}.json"
            result = results[system][seed] = run_seed(system, spec | own, path)
            print(
                f"seed {seed}, {NAMES[system]}: test {config.metric}"
                f" {result.test[config.metric]:.4f},"
                f" {result.epoch(steps_per_epoch, compiling=False):.1f} s an epoch",
                flush=True,
            )
    lines = [*heading, *report(results, config.metric, steps_per_epoch)]
    wd.write_text(directory / "report.txt", "\n".join(lines) + "\n")
    print("\n".join(lines))


def main() -> None:
    """Compares as the flags say."""
    tasks = Path(real_tasks.__file__)
    sys.argv = [
        f"--config={tasks}:{word.removeprefix('--task=')}" if word.startswith("--task=") else word
        for word in sys.argv
    ]
    config = define_flags()

    def run() -> None:
        with wd.locked(flags.FLAGS.workdir) as directory:
            compare(config.value.to_dict(), directory)

    cli.guard(run)


if __name__ == "__main__":
    main()
