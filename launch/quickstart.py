"""The whole life of a BERT on real Chinese text, in one go: `make quickstart`.

Runs the stages as their commands would, prints those commands, and ends with a table of
what was reached. Every stage reuses or resumes what its workdir holds, so an interrupted
quickstart goes on where it was.
"""

import os
import platform
import shlex
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
from absl import flags

from bert_jax import cli
from bert_jax import workdir as wd
from bert_jax.data import prepare
from bert_jax.fields import build
from bert_jax.finetune_config import LabelledDataConfig
from bert_jax.tasks import evaluate, evaluation_report, finetune, pretrain, saved_model
from bert_jax.tasks.baseline import character_ngram_accuracy
from bert_jax.tasks.classify import Classify
from bert_jax.tasks.predict import Predictor
from bert_jax.tasks.splits import read_splits
from bert_jax.tasks.task import Text
from configs import finetune_quickstart, prepare_quickstart, pretrain_quickstart

# What runs a stage, and its config file.
STAGES = {
    "prepare": (prepare.run, prepare_quickstart),
    "pretrain": (pretrain.run, pretrain_quickstart),
    "finetune": (finetune.run, finetune_quickstart),
    "evaluate": (evaluate.run, finetune_quickstart),
}
REVIEWS = (
    "这部电影剧情紧凑，演员演技出色！",
    "画面模糊，音效刺耳，不推荐观看。",
    "这部电影的特效震撼，剧情感人至深。",
)
MASKED = "酒店的服务[MASK]好，下次还会再来。"


def main() -> None:
    """Parses --workdir and --variant and runs every stage."""
    workdir = flags.DEFINE_string("workdir", "runs/quickstart", "Where everything goes.")
    variant = flags.DEFINE_string("variant", "", 'Config variant: "" or "tiny".')
    # The second fine-tuning and the evaluation find their functions compiled. Not kept in the
    # workdir: they are for this processor only.
    with tempfile.TemporaryDirectory() as compiled:
        jax.config.update("jax_compilation_cache_dir", compiled)
        cli.guard(lambda: quickstart(Path(workdir.value), variant.value))


def quickstart(root: Path, variant: str) -> None:
    """Runs the stages under `root` and prints the table."""
    data, pretrained = root / "data", root / "pretrain"
    tuned, scratch = root / "sentiment", root / "sentiment_from_scratch"
    stages = Stages(variant)
    manifest = stages.run("prepare", data)
    held_out = stages.run("pretrain", pretrained, data=str(data))
    stages.run("finetune", tuned, init_from=str(pretrained))
    stages.run("finetune", scratch, init_from="none", tokenizer=str(data / wd.TOKENIZER))
    ours = stages.run("evaluate", tuned)
    fresh = stages.run("evaluate", scratch)
    named = build(LabelledDataConfig, finetune_quickstart.get_config(variant).data, "config.data")
    rows = read_splits(Classify, named, is_tested=True)
    rival = character_ngram_accuracy(rows["train"], rows["test"])
    for line in _predict(tuned, *REVIEWS):
        shown = "  ".join(f"{name} {p:.3f}" for name, p in line["probabilities"].items())
        print(f"  {line['text']}  ->  {line['label']}  ({shown})")
    for line in _predict(pretrained, MASKED):
        fillings = "  ".join(f"{f['token']} {f['probability']:.3f}" for f in line["masks"])
        print(f"  {line['text']}  ->  {fillings}")
    _table(root, stages.seconds, manifest, held_out, ours, fresh, rival)


class Stages:
    """Runs stages, prints the command of each, and keeps their seconds."""

    def __init__(self, variant: str):
        self._variant = variant
        self.seconds: dict[str, float] = {}

    def run(self, name: str, workdir: Path, **fields: str) -> Any:
        """One stage, with these fields of its config set."""
        run, file = STAGES[name]
        config = file.get_config(self._variant)
        config.update(fields)
        path = file.__name__.replace(".", "/") + ".py"
        _print_command(
            name,
            f"--config={path}:{self._variant}".removesuffix(":"),
            f"--workdir={workdir}",
            *(f"--config.{field}={value}" for field, value in fields.items()),
        )
        started = time.monotonic()
        result = run(config, workdir)
        self.seconds[f"{name} {workdir.name}"] = time.monotonic() - started
        return result


def _print_command(name: str, *words: str) -> None:
    # Quoted: [MASK] is a pattern of file names to a shell.
    print("\n$ " + shlex.join(["python", "-m", f"bert_jax.{name}", *words]), flush=True)


def _predict(model: Path, *texts: str) -> list[dict[str, Any]]:
    _print_command("predict", f"--model={model}", *(f"--text={text}" for text in texts))
    return Predictor(saved_model.load(model))([Text(text, "", text) for text in texts])


def _table(
    root: Path,
    seconds: dict[str, float],
    manifest: dict[str, Any],
    held_out: dict[str, Any],
    ours: dict[str, Any],
    fresh: dict[str, Any],
    rival: float,
) -> None:
    below = held_out["unigram_loss"] - held_out["mlm_loss"]
    rows = manifest["splits"]["heldout"]
    random_next = rows["not_following"] / rows["labelled"]
    error = ours["standard_errors"]["accuracy"]
    lines = (
        ("held-out masked cross-entropy", f"{held_out['mlm_loss']:.3f} nats"),
        ("  unigram, same tokens", f"{held_out['unigram_loss']:.3f} nats ({below:.3f} above)"),
        ("held-out masked accuracy", f"{held_out['mlm_accuracy']:.1%}"),
        ("held-out next-sentence accuracy", f"{held_out['next_accuracy']:.1%}"),
        ("  always saying random", f"{random_next:.1%}"),
        ("test accuracy", f"{ours['accuracy']:.1%} (standard error {error:.1%})"),
        ("  macro F1", f"{ours['macro_f1']:.1%}"),
        ("  without pretraining", f"{fresh['accuracy']:.1%}"),
        ("  logistic regression, char 1-2-grams", f"{rival:.1%}"),
        ("machine", f"{os.cpu_count()} x {_processor()}, Python {platform.python_version()}"),
    )
    print("\n" + "=" * 78)
    for name, value in lines:
        print(f"{name:40}{value}")
    print("-" * 78)
    for name, spent in seconds.items():
        print(f"{name:40}{spent:6.0f} s")
    print(f"{'all stages':40}{sum(seconds.values()):6.0f} s")
    print("-" * 78)
    for name, path in (
        ("dataset and vocabulary", "data"),
        ("pretrained model, curves.png", "pretrain"),
        ("sentiment model, curves.png", "sentiment"),
        ("  its test rows and mistakes", f"sentiment/{evaluation_report.HTML}"),
        ("  without pretraining", "sentiment_from_scratch"),
    ):
        print(f"{name:40}{root / path}")
    print("=" * 78)


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as info:
            names = [line.split(": ")[1].strip() for line in info if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
