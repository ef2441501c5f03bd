"""Our train step beside Hugging Face's on one accelerator: speed, MFU and memory.

    pip install -e .[peers]
    python -m tests.benchmarks.accelerator --sizes=base,large --lengths=128,512

A whole step each: masked tokens and next sentence, forward, backward, clipping, AdamW; bfloat16
with float32 parameters, dropout 0.1, rows that are full and lie on the device. Batches are the
largest that fit, among powers of two. Each case is a process of its own, so that none meets
another's memory. Ours has `attention=auto`, which on GPUs is plain where the attention's
probabilities are dropped, and cuDNN's where they are not: so both sides go a second time
without that dropout. Hugging Face's is PyTorch with scaled_dot_product_attention, torch.compile
and fused AdamW.

MFU is by what the work needs, for both: the vocabulary at the masked places, where Hugging
Face's multiplies it everywhere. `--device=cpu` does all this with models of seconds, to see that
it runs.
"""

import argparse
import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
from typing import Any, NamedTuple

from bert_jax.config import ModelConfig
from bert_jax.fields import build
from bert_jax.model.flops import training_flops
from tests.benchmarks.accelerated.work import (
    DROPOUT,
    NO_DEVICE,
    OUT_OF_MEMORY,
    Measured,
    Work,
)

# Ours takes what its compiler has planned: three quarters is XLA's default.
ENVIRONMENT = {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.95", "TOKENIZERS_PARALLELISM": "false"}
OURS, TORCH = "bert_jax", "Hugging Face"
MODULES = {OURS: "ours", TORCH: "theirs"}


class NoDevice(Exception):
    """The process found no accelerator."""


class Result(NamedTuple):
    """A case of one side."""

    side: str
    work: Work
    measured: Measured

    def mfu(self, peak_flops: float) -> float:
        """Share of the device's peak that goes into what the work needs."""
        model = build(ModelConfig, self.work.config().model)
        row = training_flops(
            model, length=self.work.length, predictions=self.work.predictions, instances=1
        )
        return row * self.measured.sequences_per_second / peak_flops


def run_case(side: str, work: Work) -> Measured | None:
    """In a process of its own, with half the batch as long as memory runs out; None where not
    even a row fits. Raises NoDevice."""
    while True:
        module = f"tests.benchmarks.accelerated.{MODULES[side]}"
        command = [sys.executable, "-m", module, json.dumps(dataclasses.asdict(work))]
        ended = subprocess.run(
            command, env=os.environ | ENVIRONMENT, stdout=subprocess.PIPE, text=True
        )
        if ended.returncode == NO_DEVICE:
            raise NoDevice
        if ended.returncode not in (0, OUT_OF_MEMORY):
            sys.exit(f"{' '.join(command)} ended with {ended.returncode}")
        said = json.loads(ended.stdout.splitlines()[-1])
        if ended.returncode == 0:
            return Measured(**said)
        print(f"{side}: no memory for {said['batch_size']} rows", file=sys.stderr)
        if said["batch_size"] == 1:
            return None
        work = dataclasses.replace(work, batch_size=said["batch_size"] // 2)


def cases(arguments: argparse.Namespace) -> list[Work]:
    """With dropout of the attention's probabilities, and without."""
    return [
        Work(size, length, attention_dropout, arguments.batch_size, arguments.device)
        for size in arguments.sizes.split(",")
        for length in map(int, arguments.lengths.split(","))
        for attention_dropout in (DROPOUT, 0.0)
    ]


def rows(results: list[Result]) -> list[dict[str, Any]]:
    """What is printed, for each result."""
    peak = next((r.measured.peak_flops for r in results if r.side == OURS), 0.0)
    speeds = {
        (r.work.size, r.work.length, r.work.attention_dropout): r.measured.sequences_per_second
        for r in results
        if r.side == TORCH
    }
    found = []
    for side, work, measured in results:
        peer = speeds.get((work.size, work.length, work.attention_dropout))
        found.append(
            {
                "size": work.size,
                "length": work.length,
                "attention_dropout": work.attention_dropout,
                "side": side,
                "device": measured.device,
                "batch_size": measured.batch_size,
                "step_ms": measured.step_ms,
                "sequences_per_second": measured.sequences_per_second,
                "mfu": Result(side, work, measured).mfu(peak) if peak else None,
                "peak_bytes": measured.peak_bytes or None,
                "planned_bytes": measured.planned_bytes or None,
                "ratio": measured.sequences_per_second / peer if peer else None,
            }
        )
    return found


def table(rows: list[dict[str, Any]]) -> str:
    """As Markdown."""
    columns = {
        "model": lambda row: row["size"],
        "tokens": lambda row: f"{row['length']}",
        "attention's dropout": lambda row: f"{row['attention_dropout']:g}",
        "": lambda row: row["side"],
        "batch": lambda row: f"{row['batch_size']:,}",
        "sequences/s": lambda row: f"{row['sequences_per_second']:,.1f}",
        "MFU": lambda row: _known(row["mfu"], "{:.1%}"),
        "GiB at peak": lambda row: _known(row["peak_bytes"], "{:.1f}", 2**30),
        "GiB planned": lambda row: _known(row["planned_bytes"], "{:.1f}", 2**30),
        "ratio": lambda row: _known(row["ratio"], "{:.2f}"),
    }
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    lines += [f"| {' | '.join(show(row) for show in columns.values())} |" for row in rows]
    return "\n".join(lines)


def _known(value: float | None, form: str, unit: float = 1) -> str:
    return "" if value is None else form.format(value / unit)


def main() -> None:
    """Prints the table, or with --json its rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="base,large", help="of configs/pretrain_*.py")
    parser.add_argument("--lengths", default="128,512")
    parser.add_argument("--batch_size", type=int, default=0, help="0 = the largest that fits")
    parser.add_argument("--device", choices=("", "cpu"), default="")
    parser.add_argument("--peers", choices=("torch", "none"), default="torch")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    sides = [OURS, TORCH] if arguments.peers == "torch" else [OURS]
    if TORCH in sides and importlib.util.find_spec("transformers") is None:
        print("without Hugging Face (transformers is not installed)", file=sys.stderr)
        sides = [OURS]
    results = []
    for work in cases(arguments):
        for side in list(sides):
            try:
                measured = run_case(side, work)
            except NoDevice:
                if side == OURS:
                    print(
                        "error: jax finds no accelerator here: run this where it does, or with"
                        " --device=cpu to see that it runs.",
                        file=sys.stderr,
                    )
                    sys.exit(NO_DEVICE)
                print("without Hugging Face (PyTorch finds no GPU)", file=sys.stderr)
                sides.remove(side)
                continue
            if measured:
                results.append(Result(side, work, measured))
    found = rows(results)
    print(json.dumps(found, indent=2) if arguments.json else table(found))


if __name__ == "__main__":
    main()
