"""Several seeds of a fine-tuning on this machine: in turn, beside all as one vmapped program.

    python -m tests.benchmarks.starts --to=runs/starts
    python -m tests.benchmarks.seeds --config.init_from=runs/starts/l2h512 \\
        --config=tests/benchmarks/real_tasks.py:chinese_sentiment

Both take the same examples in the same batches. In turn, each seed's have a shape of those chosen
for the run and share programs where shapes are equal, as `--config.seeds` runs them. One program
for all wants one shape: the longest of all batches of a step, and as many rows as the fullest one
has. The first pass over the batches compiles; then passes take turns, and the median of each side
counts. Parameters are fresh, which no step takes longer or shorter for.
"""

import dataclasses
import itertools
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags
from jaxtyping import PyTree

from bert_jax import cli
from bert_jax.data.epochs import epoch_batches
from bert_jax.data.shapes import common_shape
from bert_jax.fields import Values, build
from bert_jax.finetune_config import FinetuneConfig
from bert_jax.tasks import all_tasks
from bert_jax.tasks.batches import packed, text_lengths
from bert_jax.tasks.splits import TRAIN
from bert_jax.tasks.start import find_start
from bert_jax.tasks.task import Task
from bert_jax.tasks.tuning import Data, Program, make_program
from bert_jax.training.hardware import compiler_options
from bert_jax.training.sharding import make_mesh, row_shards
from bert_jax.training.state import TrainState, init_state


class Side(NamedTuple):
    """One way to take a step of every seed, at work."""

    name: str
    step: Callable[[int], None]  # takes that of the batch of this number, to its end
    steps: int  # there are
    shapes: int  # that are compiled for


def together(task: Task, parts: Sequence[Sequence[Any]], size: int, multiple: int) -> PyTree:
    """A batch of each part, all of the shape that the largest needs, as one array more deep."""
    texts = [text_lengths(task, part) for part in parts]
    shape = common_shape(texts, max_length=task.max_length, multiple=multiple)
    batches = [packed(task, part, size, shape) for part in parts]
    return jax.tree.map(lambda *arrays: np.stack(arrays), *batches)


def shapes(batches: Iterable[PyTree]) -> int:
    """How many different ones there are."""
    return len({str(jax.tree.map(np.shape, batch)) for batch in batches})


def sides(config: FinetuneConfig, count: int, steps: int) -> tuple[Side, Side]:
    """In turn, and as one program."""
    start = find_start(config)
    config = dataclasses.replace(config, model=start.model)
    data = Data.open(all_tasks.named(config.task), config, start)
    mesh = make_mesh(config.mesh)
    program = make_program(config, data, mesh)
    examples, size = data.examples[TRAIN], config.batch_size
    orders = [
        epoch_batches(len(examples), batch_size=size, seed=seed, epoch=0) for seed in range(count)
    ]
    parts = [
        [[examples[i] for i in indices] for indices in step]
        for step, _ in zip(zip(*orders, strict=True), range(steps), strict=False)
    ]

    def own(part: list[Any]) -> PyTree:
        return packed(data.task, part, size, program.shapes.of(text_lengths(data.task, part)))

    alone = [[own(part) for part in step] for step in parts]
    of_all = [together(data.task, step, size, row_shards(mesh)) for step in parts]
    states = [first_state(program, config, seed) for seed in range(count)]
    all_states = jax.tree.map(lambda *leaves: jax.numpy.stack(leaves), *states)
    vmapped = jax.jit(
        jax.vmap(program.train_step.__wrapped__),
        donate_argnums=0,
        compiler_options=compiler_options(mesh),  # as train_step has them
    )

    def in_turn(number: int) -> None:
        for seed, batch in enumerate(alone[number]):
            states[seed], _ = program.train_step(states[seed], batch)
        jax.block_until_ready(states)

    def at_once(number: int) -> None:
        nonlocal all_states
        all_states, _ = vmapped(all_states, of_all[number])
        jax.block_until_ready(all_states)

    return (
        Side("one after the other", in_turn, len(parts), shapes(itertools.chain(*alone))),
        Side("as one program", at_once, len(parts), shapes(of_all)),
    )


def first_state(program: Program, config: FinetuneConfig, seed: int) -> TrainState:
    """A fresh one."""
    return init_state(
        program.forward.init_params,
        program.optimizer,
        seed=seed,
        prng=config.prng,
        mesh=program.mesh,
    )


def seconds_a_step(side: Side) -> float:
    """The mean of a pass."""
    started = time.perf_counter()
    for number in range(side.steps):
        side.step(number)
    return (time.perf_counter() - started) / side.steps


def compare(values: Values) -> None:
    """Prints what a step of all seeds takes on either side."""
    given = flags.FLAGS
    values = dict(values)
    values.pop("benchmark", None)
    both = sides(build(FinetuneConfig, values), given.seeds, given.steps)
    first = [seconds_a_step(side) * side.steps for side in both]
    spent = [[seconds_a_step(side) for side in both] for _ in range(given.passes)]
    medians = [statistics.median(found) for found in zip(*spent, strict=True)]
    print(f"{f'{given.seeds} seeds':23}{'s a step of all':>18}{'first pass, s':>16}{'shapes':>9}")
    for side, each, compiled in zip(both, medians, first, strict=True):
        print(f"{side.name:23}{each:>18.3f}{compiled:>16.1f}{side.shapes:>9}")
    print(f"as one program / one after the other: {medians[1] / medians[0]:.2f}")


def main() -> None:
    """Compares as the flags say."""
    flags.DEFINE_integer("seeds", 5, "Seeds.", lower_bound=2)
    flags.DEFINE_integer("steps", 8, "Batches of each.", lower_bound=1)
    flags.DEFINE_integer("passes", 5, "Over the batches, of each side.", lower_bound=1)
    config = cli.define_config()
    cli.guard(lambda: compare(config.value.to_dict()))


if __name__ == "__main__":
    main()
