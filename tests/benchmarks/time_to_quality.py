"""Minutes until a held-out loss that Hugging Face's run_mlm recipe needs `--minutes` for.

    pip install -e .[peers]
    python -m tests.benchmarks.time_to_quality --data=runs/quickstart/data --minutes=20

The same documents, held-out documents, vocabulary, model size and cores for both. Theirs:
BertForMaskedLM as run_mlm.py trains it, by the rates, batch sizes and initialisations that are
named here: each for `--search_minutes`, then the best of them, and the recipe's own defaults
where they are among them, for all the time. Ours: `python -m bert_jax.pretrain` with `--config`,
whose schedule ends after `--share` of that time. Every point of both is evaluated by the same
code on the same masked tokens, of held-out text in blocks, as theirs is trained on, and of
held-out rows, as ours is. Preparing, cutting, evaluating and saving are not counted, compiling is.

Runs are kept in `--workdir`, and taken from there where nothing changed. `--without=packing`
trains ours once more with one instance a row, `pairs` on text without next sentences,
`gathered_head` with the decoder at every position, `schedule` with the peer's best rate and no
warm-up, `batch` with its batch size, and `pairs+batch` without both.
"""

import argparse
import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from bert_jax.config import PretrainConfig
from bert_jax.data.dataset import HELDOUT, TRAIN
from bert_jax.errors import InputError
from bert_jax.fields import build
from bert_jax.tasks.phases import open_phases
from tests.benchmarks.quality import report
from tests.benchmarks.quality.curve import Curve
from tests.benchmarks.quality.heldout import Evaluator, heldout_batches
from tests.benchmarks.quality.our_runs import ABLATIONS, OurRuns
from tests.benchmarks.quality.text import read_blocks
from tests.benchmarks.quality.their_runs import (
    DEFAULTS,
    MODELS,
    TheirRuns,
    Variant,
    strongest,
    variants,
)

OURS, THEIRS = "ours", "theirs"


def run(arguments: argparse.Namespace) -> None:
    """Runs what is asked for, and prints what all runs that there are have reached."""
    config = importlib.import_module(f"configs.{arguments.config}").get_config()
    config.data = str(arguments.data.absolute())
    config, (phase, *_) = open_phases(build(PretrainConfig, config), None)
    workdir, identity = arguments.workdir.absolute(), phase.data.identity()
    blocks = _blocks(phase.data.directory, workdir / f"blocks_{identity[:12]}")
    evaluator = Evaluator(heldout_batches(config, np.load(blocks[HELDOUT])))
    shared = (workdir, phase.data.directory, identity)
    their_runs = TheirRuns(*shared, config.model, blocks[TRAIN], evaluator)
    our_runs = OurRuns(*shared, arguments.config, config.log_every, evaluator)
    if arguments.only == OURS:
        theirs = strongest(their_runs.found(arguments.minutes))
    else:
        theirs = _theirs(arguments, their_runs)
    ours = _ours(arguments, our_runs, theirs) if arguments.only != THEIRS else []
    print(report.table([*theirs, *ours]))
    if theirs and ours:
        print(report.comparison(theirs, ours, arguments.minutes))


def _theirs(arguments: argparse.Namespace, runs: TheirRuns) -> list[Curve]:
    chosen = variants(
        arguments.theirs_learning_rate,
        arguments.theirs_batch_size,
        arguments.theirs_model,
        arguments.theirs_compiled,
    )
    if len(chosen) > arguments.finalists:
        short = strongest(runs.run(variant, arguments.search_minutes) for variant in chosen)
        print(report.table(short))
        best = [Variant.of(curve) for curve in short[: arguments.finalists]]
        chosen = [*best, *(each for each in chosen if each == DEFAULTS and each not in best)]
    return strongest(runs.run(variant, arguments.minutes) for variant in chosen)


def _ours(arguments: argparse.Namespace, runs: OurRuns, theirs: list[Curve]) -> list[Curve]:
    peer = Variant.of(theirs[0]) if theirs else DEFAULTS
    minutes = arguments.minutes * arguments.share
    return [runs.run(minutes, without, peer) for without in ("", *arguments.without)]


def _blocks(data: Path, directory: Path) -> dict[str, Path]:
    """The files with the blocks of each split; made once."""
    files = {split: directory / f"{split}.npy" for split in (TRAIN, HELDOUT)}
    if not all(file.exists() for file in files.values()):
        directory.mkdir(parents=True, exist_ok=True)
        for split, blocks in read_blocks(data).items():
            np.save(files[split], blocks)
            print(f"{split}: {len(blocks):,} blocks of {blocks.shape[1]} tokens")
    return files


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="workdir of a preparation")
    parser.add_argument("--workdir", type=Path, default=Path("runs/time_to_quality"))
    parser.add_argument("--config", default="pretrain_quickstart", help="name in configs/")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--share", type=float, default=0.5, help="of the minutes, for ours")
    parser.add_argument("--only", choices=(OURS, THEIRS), help="run one side; else both")
    parser.add_argument("--without", type=_several(ABLATIONS), default=())
    parser.add_argument("--theirs_learning_rate", type=_several(float), default="5e-5,1e-3,2e-3")
    parser.add_argument("--theirs_batch_size", type=_several(int), default="8,32")
    parser.add_argument("--theirs_model", type=_several(MODELS), default="published,same")
    parser.add_argument("--theirs_compiled", action="store_true", help="with torch.compile")
    parser.add_argument("--search_minutes", type=float, default=2.0, help="of each variant")
    parser.add_argument("--finalists", type=int, default=2, help="variants that get all minutes")
    parser.add_argument("--cores", type=int, default=2)
    return parser.parse_args(argv)


def _several(kind: Callable[[str], Any] | tuple[str, ...]) -> Callable[[str], tuple[Any, ...]]:
    """Values by commas, each read by `kind`, or of those that it lists one or several with +."""

    def read(text: str) -> tuple[Any, ...]:
        parts = text.split(",")
        names = {name for part in parts for name in part.split("+")}
        if isinstance(kind, tuple) and not names <= set(kind):
            raise argparse.ArgumentTypeError(f"{text!r} is not of {', '.join(kind)}")
        return tuple(parts) if isinstance(kind, tuple) else tuple(map(kind, parts))

    return read


def main() -> None:
    """Keeps to so many cores, in the processes that are started too."""
    arguments = parse()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.cores])
    os.environ["JAX_PLATFORMS"] = "cpu"
    jax.config.update("jax_platforms", "cpu")
    try:
        run(arguments)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(InputError.exit_code)
    except subprocess.CalledProcessError as error:
        sys.exit(f"{' '.join(error.cmd)} ended with {error.returncode}")


if __name__ == "__main__":
    main()
