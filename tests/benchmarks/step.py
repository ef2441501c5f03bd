"""Pretraining steps on CPUs beside Hugging Face's: same work, same machine, one run.

    pip install -e .[peers]
    python -m tests.benchmarks.step --lengths=128,512
    python -m tests.benchmarks.step --data=runs/quickstart/data

BERT of `--config`'s size in float32, masked tokens and next sentence, dropout 0.1, AdamW and
clipping. Every system is a process of its own; ours takes turns with each other one, a step at a
time, and the median counts. Without `--data` rows are random ids, all of them full. With it they
are instances of a prepared dataset: packed here, one a row and padded to the longest there,
and only real tokens count.

The peers are those of `transformers`: its PyTorch model run eagerly, by torch.compile, and with
its head on the masked tokens alone, which it does not do by itself; and its Flax model.
`--peers=bert_jax_unsettled` is our own step without what bert_jax/process.py does.
"""

import argparse
import importlib
import itertools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bert_jax import process
from bert_jax.arrays import PretrainBatch
from bert_jax.data import dataset, pipeline
from bert_jax.fields import build
from bert_jax.text import tokenizer as tokenizers
from tests.benchmarks.full_rows import VOCABULARY, full_rows
from tests.benchmarks.systems import OURS, PEERS, SYSTEMS, Settings


def batches(arguments: argparse.Namespace, length: int) -> Iterator[PretrainBatch]:
    """Endless batches; every process makes the same."""
    if arguments.data:
        return _real(Path(arguments.data), arguments.tokens)
    return _full(length, arguments.tokens // length)


def _full(length: int, rows: int) -> Iterator[PretrainBatch]:
    rng = np.random.default_rng(0)
    while True:
        yield full_rows(rng, rows=rows, length=length, predictions=round(0.15 * length))


def _real(data: Path, tokens: int) -> Iterator[PretrainBatch]:
    """Rows as `bert_jax.prepare` packed them."""
    config = importlib.import_module("configs.pretrain_base").get_config()
    manifest = dataset.read_manifest(data)
    made = pipeline.training_batches(
        dataset.RowSource(data, dataset.TRAIN),
        tokenizers.load(data / "tokenizer"),
        build(pipeline.MaskingConfig, config.masking.to_dict(), "config.masking"),
        length=manifest["length"],
        max_instances=manifest["max_instances"],
        batch_size=tokens // manifest["length"],
        seed=0,
    )
    return (made[step] for step in itertools.count())


class Worker:
    """A system in a process of its own, which computes a step when it is told to."""

    def __init__(self, name: str, length: int, arguments: list[str]):
        command = [sys.executable, "-m", "tests.benchmarks.step", *arguments]
        self._process = subprocess.Popen(
            [*command, f"--system={name}", f"--lengths={length}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def step(self) -> tuple[float, int]:
        """Seconds, and the real tokens of that batch."""
        self._process.stdin.write("step\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the process of {self._process.args[-2]} has died")
        seconds, tokens, _ = json.loads(answer)
        return seconds, tokens

    def close(self) -> None:
        """Ends the process."""
        self._process.stdin.close()
        self._process.wait()


def work(arguments: argparse.Namespace) -> None:
    """What a worker does: a step a line, seconds and tokens and loss back."""
    length = int(arguments.lengths)
    vocabulary = VOCABULARY
    if arguments.data:
        data = Path(arguments.data)
        length = dataset.read_manifest(data)["length"]
        vocabulary = tokenizers.load(data / "tokenizer").vocab_size
    system = SYSTEMS[arguments.system](Settings(arguments.config, vocabulary, length))
    answers = sys.stdout
    sys.stdout = sys.stderr
    for _, batch in zip(sys.stdin, batches(arguments, length), strict=False):
        prepared = system.prepare(batch)
        start = time.perf_counter()
        loss = system.step(prepared)
        seconds = time.perf_counter() - start
        print(
            json.dumps([seconds, int((batch.tokens.instances > 0).sum()), loss]),
            file=answers,
            flush=True,
        )


def compare(length: int, arguments: argparse.Namespace, given: list[str]) -> None:
    """Prints tokens a second of ours and of each peer, measured in turns."""
    title = arguments.data or f"rows of {length}"
    print(f"\n{title}: {'ours':>28}{'theirs':>12}{'ratio':>8}   tokens/s, median")
    ours = Worker(OURS, length, given)
    for peer in arguments.peers.split(","):
        theirs = Worker(peer, length, given)
        for worker in (ours, theirs):
            for _ in range(arguments.warmup):
                worker.step()
        found: dict[Worker, list[float]] = {ours: [], theirs: []}
        for _ in range(arguments.steps):
            for worker, speeds in found.items():
                seconds, tokens = worker.step()
                speeds.append(tokens / seconds)
        theirs.close()
        mine, others = (statistics.median(speeds) for speeds in found.values())
        print(f"  {peer:26}{mine:>14,.0f}{others:>12,.0f}{mine / others:>8.2f}", flush=True)
    ours.close()


def matrix_rate(size: int = 2048, times: int = 5) -> float:
    """Operations a second of float32 products of square matrices, in jax."""
    import jax
    import jax.numpy as jnp

    square = jnp.ones((size, size), jnp.float32)
    product = jax.jit(jnp.dot)
    product(square, square).block_until_ready()
    start = time.perf_counter()
    for _ in range(times):
        product(square, square).block_until_ready()
    return times * 2 * size**3 / (time.perf_counter() - start)


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="pretrain_base", help="name in configs/")
    parser.add_argument("--lengths", default="128,512", help="of random rows")
    parser.add_argument("--data", default="", help="workdir of a preparation, for real rows")
    parser.add_argument("--tokens", type=int, default=1024, help="in a batch, padding included")
    parser.add_argument("--peers", default=",".join(PEERS), help="which, in this order")
    parser.add_argument("--warmup", type=int, default=2, help="steps that are not counted")
    parser.add_argument("--steps", type=int, default=7)
    parser.add_argument("--system", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.system == OURS:
        process.settle()
    if arguments.system:
        work(arguments)
        return
    print(f"products of 2048 x 2048 float32: {matrix_rate() / 1e9:,.0f} GFLOP/s")
    for length in [0] if arguments.data else map(int, arguments.lengths.split(",")):
        compare(length, arguments, sys.argv[1:])


if __name__ == "__main__":
    main()
