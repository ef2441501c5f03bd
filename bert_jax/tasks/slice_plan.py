"""A whole pretraining on one slice of TPUs: the plans of its phases' steps, put together."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from bert_jax.config import PretrainConfig
from bert_jax.tasks.phases import phase_configs
from bert_jax.tasks.planned_step import Rows, Step, StepPlan, plan_step
from bert_jax.tasks.step_cost import GROUPS, StepCost
from bert_jax.training import aot
from bert_jax.training.hardware import Tpu
from bert_jax.training.sharding import check_batch, host_part, make_mesh

# What is known of a step where there is a program.
TIMES = (
    *("step_ms", "mfu", "sequences_per_second", "hours"),
    *("groups", "by_formula", "hidden_bytes"),
)


class Work(NamedTuple):
    """What is to be done: a pretraining, and the rows of each of its phases."""

    config: PretrainConfig
    rows: tuple[Rows, ...]

    def steps(self) -> list[Step]:
        """The step of each phase."""
        phases = phase_configs(self.config)
        return [Step(self.config, *each) for each in zip(phases, self.rows, strict=True)]


class Slice(NamedTuple):
    """What it is to be done on."""

    topology: str
    tpu: Tpu
    devices: list[jax.Device]

    @classmethod
    def named(cls, topology: str) -> "Slice":
        """Raises InputError for one that is not known."""
        return cls(topology, *aot.devices(topology))


class SlicePlan(NamedTuple):
    """What comes of it."""

    slice: Slice
    mesh: tuple[int, ...]  # data x fsdp x tensor
    steps: list[Step]
    plans: list[StepPlan]  # of each phase's step

    @property
    def fits(self) -> bool:
        """Whether every phase does."""
        return self.numbers()["fits"]

    @property
    def missing_bytes(self) -> int:
        """By how many a chip has too few; negative where some are left."""
        return max(plan.bytes for plan in self.plans) - self.slice.tpu.hbm_bytes

    def counts(self) -> list[int]:
        """How many steps of each phase are done: all, or those that config.budget_minutes, which
        the phases share, have time for where nothing but steps takes any; one at least."""
        left = 60 * self.steps[0].config.budget_minutes or math.inf
        counts: list[int] = []
        for step, plan in zip(self.steps, self.plans, strict=True):
            count = step.phase.steps
            seconds = plan.cost.seconds if plan.cost else 0.0
            if count * seconds > left:
                count, left = max(int(left / seconds), 0 if counts else 1), 0.0
            else:
                left -= count * seconds
            counts.append(count)
        return counts

    def numbers(self) -> dict[str, Any]:
        """The numbers that scripts read: of a step in the mean over all that are done, and of
        each phase."""
        each = [self._of([number]) for number in range(len(self.steps))]
        return self._of(range(len(self.steps))) | {"phases": each}

    def _of(self, phases: Sequence[int]) -> dict[str, Any]:
        steps = [self.steps[number] for number in phases]
        plans = [self.plans[number] for number in phases]
        counts = [self.counts()[number] for number in phases]
        size = max(plan.bytes for plan in plans)
        known = all(plan.cost for plan in plans)
        numbers = {
            "topology": self.slice.topology,
            "chips": len(self.slice.devices),
            "mesh": dict(zip(("data", "fsdp", "tensor"), self.mesh, strict=True)),
            "steps": sum(counts),
            "bytes_per_chip": size,
            "memory": max(plans, key=lambda plan: plan.bytes).memory,
            "hbm_bytes": self.slice.tpu.hbm_bytes,
            "fits": known and size <= self.slice.tpu.hbm_bytes,
            "compile_seconds": sum(plan.compile_seconds for plan in plans),
        }
        if not known:
            return numbers | dict.fromkeys(TIMES)
        # Of a phase that there is no time for, what a step would be.
        weights = counts if any(counts) else [1]
        done = list(zip(weights, steps, plans, strict=True))
        seconds = sum(weight * plan.cost.seconds for weight, _, plan in done)
        flops = sum(weight * step.flops for weight, step, _ in done)
        sequences = sum(weight * step.phase.batch_size for weight, step, _ in done)
        peak = self.slice.tpu.peak_flops * len(self.slice.devices)

        def mean(of: Callable[[StepCost], float]) -> float:
            return sum(weight * of(plan.cost) for weight, _, plan in done) / sum(weights)

        used = {name for plan in plans for name in plan.cost.by_formula}
        times = (
            1e3 * seconds / sum(weights),
            flops / (seconds * peak),
            sequences / seconds,
            seconds / 3600 if any(counts) else 0.0,
            {name: 1e3 * mean(lambda cost, name=name: cost.groups[name]) for name in GROUPS},
            {
                name: 1e3 * mean(lambda cost, name=name: cost.by_formula.get(name, 0.0))
                for name in sorted(used)
            },
            mean(lambda cost: cost.hidden_bytes),
        )
        return numbers | dict(zip(TIMES, times, strict=True))


def mesh_for(work: Work, where: Slice) -> Mesh:
    """Raises InputError where the run would: for a mesh that does not divide the slice or shares
    rows between its hosts unevenly, and a batch that does not divide the mesh."""
    mesh = make_mesh(work.config.mesh, where.devices)
    host_part(mesh)
    for step in work.steps():
        check_batch(mesh, step.phase.batch_size, step.phase.microbatches)
    return mesh


def plan_slice(work: Work, where: Slice, *, fast: bool) -> SlicePlan:
    """Compiles the step of every phase; of equal ones the first.

    Raises InputError where the run would, as `mesh_for` does.
    """
    mesh = mesh_for(work, where)
    steps = work.steps()
    plans: dict[Any, StepPlan] = {}
    for step in steps:
        if _shape(step) not in plans:
            plans[_shape(step)] = plan_step(step, where.tpu, mesh, fast=fast)
    return SlicePlan(
        where, tuple(mesh.shape.values()), steps, [plans[_shape(step)] for step in steps]
    )


def _shape(step: Step) -> tuple[Any, ...]:
    phase = step.phase
    return (phase.batch_size, phase.microbatches, phase.max_predictions, step.rows)
