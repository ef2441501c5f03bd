"""The train step of a pretraining compiled for a slice of TPUs: its memory and its time."""

import dataclasses
import math
import sys
from typing import NamedTuple

import jax
from jax.sharding import Mesh
from jax.stages import Lowered
from jaxtyping import PyTree

from bert_jax.config import PhaseConfig, PretrainConfig
from bert_jax.data import pipeline
from bert_jax.model.flops import training_flops
from bert_jax.tasks.pretrain import make_step, run_state_shapes
from bert_jax.tasks.step_cost import StepCost, step_cost
from bert_jax.training.aot import DoesNotFit, compile_step
from bert_jax.training.hardware import Tpu
from bert_jax.training.sharding import batch_sharding

# Of the two small steps that a large one is reckoned from: each layer more costs the same.
FEW, MORE = 2, 3

PARAMETERS, OPTIMIZER, TEMPORARIES, REST = (
    *("parameters", "optimizer", "activations and temporaries", "batch and program"),
)


class Rows(NamedTuple):
    """The shape of the rows of a phase."""

    length: int
    instances: int  # in a row, at most


class Step(NamedTuple):
    """The step of one phase; the vocabulary's size is in the config by now."""

    config: PretrainConfig
    phase: PhaseConfig
    rows: Rows

    @property
    def flops(self) -> float:
        """Of the model's arithmetic, over all chips."""
        return self.phase.batch_size * training_flops(
            self.config.model,
            length=self.rows.length,
            predictions=self.phase.max_predictions,
            instances=self.rows.instances,
        )


class StepPlan(NamedTuple):
    """What the compiler says of a step, for one chip."""

    memory: dict[str, int]  # bytes
    cost: StepCost | None  # None where memory ran out before there was a program
    compile_seconds: float

    @property
    def bytes(self) -> int:
        """That a chip needs."""
        return sum(self.memory.values())


def plan_step(step: Step, tpu: Tpu, mesh: Mesh, *, fast: bool) -> StepPlan:
    """Compiles the step, or with `fast` those of FEW and MORE layers and reckons from these."""
    layers = step.config.model.layers
    if not fast or layers <= MORE:
        return _compiled(step, tpu, mesh)
    few, more = (_compiled(_with_layers(step, count), tpu, mesh) for count in (FEW, MORE))

    def at_all_layers(small: float, large: float) -> float:
        return max(small + (layers - FEW) / (MORE - FEW) * (large - small), 0.0)

    def each(small: dict[str, float], large: dict[str, float]) -> dict[str, float]:
        names = small | large
        return {name: at_all_layers(small.get(name, 0), large.get(name, 0)) for name in names}

    cost = None
    if few.cost and more.cost:
        cost = StepCost(
            each(few.cost.groups, more.cost.groups),
            each(few.cost.by_formula, more.cost.by_formula),
            at_all_layers(few.cost.hidden_bytes, more.cost.hidden_bytes),
        )
    memory = {name: round(size) for name, size in each(few.memory, more.memory).items()}
    return StepPlan(
        memory | _state_bytes(step.config, mesh),
        cost,
        few.compile_seconds + more.compile_seconds,
    )


def lower_step(step: Step, mesh: Mesh) -> Lowered:
    """The run's own step, for a state and a batch that are shapes alone."""
    train_step = make_step(step.config, mesh, microbatches=step.phase.microbatches)
    return train_step.lower(run_state_shapes(step.config, mesh), _batch_shapes(step, mesh))


def _with_layers(step: Step, layers: int) -> Step:
    model = dataclasses.replace(step.config.model, layers=layers)
    return step._replace(config=dataclasses.replace(step.config, model=model))


def _compiled(step: Step, tpu: Tpu, mesh: Mesh) -> StepPlan:
    state_bytes = _state_bytes(step.config, mesh)
    try:
        program = compile_step(lower_step(step, mesh))
    except DoesNotFit as error:
        memory = state_bytes | {TEMPORARIES: error.bytes, REST: 0}
        return StepPlan(memory, None, error.seconds)
    sizes = " x ".join(str(size) for size in mesh.shape.values())
    print(
        f"compiled {step.config.model.layers} layers on a mesh of {sizes}"
        f" in {program.seconds:.0f} s",
        file=sys.stderr,
    )
    memory = state_bytes | {
        TEMPORARIES: program.temporaries,
        REST: program.arguments - sum(state_bytes.values()) + program.code,
    }
    return StepPlan(memory, step_cost(program.text, tpu), program.seconds)


def _batch_shapes(step: Step, mesh: Mesh) -> PyTree:
    # One row, so that no batch of tens of thousands is made for its shape.
    row = pipeline.example_batch(
        rows=1,
        length=step.rows.length,
        max_instances=step.rows.instances,
        max_predictions=step.phase.max_predictions,
    )
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(
            (step.phase.batch_size, *leaf.shape[1:]), leaf.dtype, sharding=batch_sharding(mesh)
        ),
        row,
    )


def _state_bytes(config: PretrainConfig, mesh: Mesh) -> dict[str, int]:
    """Of the parameters and of what the optimizer keeps, on one chip."""
    state = run_state_shapes(config, mesh)

    def size(tree: PyTree) -> int:
        return sum(
            math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
            for leaf in jax.tree.leaves(tree)
        )

    return {PARAMETERS: size(state.params), OPTIMIZER: size(state.optimizer)}
