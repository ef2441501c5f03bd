"""A compiler that says of a step for TPUs what is easily reckoned, and plans with it."""

import jax

from bert_jax.tasks import planned_step, planning
from bert_jax.tasks.planned_step import OPTIMIZER, PARAMETERS, REST, TEMPORARIES, StepPlan
from bert_jax.tasks.step_cost import GROUPS, StepCost
from bert_jax.training import aot
from bert_jax.training.hardware import TPUS
from configs import pretrain_base

GIB = 2**30
V5E = TPUS["v5e"]


def eight_chips(monkeypatch):
    """Eight devices stand in for v5e:2x4, whatever the topology is called."""
    monkeypatch.setattr(aot, "devices", lambda topology: (V5E, jax.devices()[:8]))


class Compiler:
    """A millisecond a layer and 8 rows, and for each layer computed again half of that; parameters
    are split over the mesh."""

    def __init__(self, gib_a_row=0.001, mesh_ms=None, state_gib=0.0):
        self.steps = []
        self.meshes = []
        self._state_gib = state_gib
        self._gib_a_row = gib_a_row
        self._mesh_ms = mesh_ms or {}

    def __call__(self, step, tpu, mesh):
        model, phase = step.config.model, step.phase
        self.steps.append((model.layers, phase.batch_size, phase.microbatches, model.remat))
        self.meshes.append(tuple(mesh.shape.values()))
        again = {"none": 0.0, "dots": 0.25, "full": 0.5}[model.remat]
        rows = phase.batch_size / mesh.shape["data"] / mesh.shape["fsdp"] / phase.microbatches
        groups = dict.fromkeys(GROUPS, 0.0)
        groups["attention"] = 1e-3 * model.layers * (1 + again) * phase.batch_size / 8
        groups["optimizer"] = 2e-3 + 1e-3 * self._mesh_ms.get(tuple(mesh.shape.values()), 0)
        groups["other"] = 1e-4 * phase.microbatches
        kept = {"none": 1.0, "dots": 0.5, "full": 0.25}[model.remat]
        temporaries = round(rows * model.layers * kept * self._gib_a_row * GIB)
        state = round(self._state_gib * GIB / mesh.shape["fsdp"] / mesh.shape["tensor"])
        memory = {
            PARAMETERS: 1 + state,
            OPTIMIZER: 2,
            TEMPORARIES: temporaries,
            REST: 10 * model.layers,
        }
        return StepPlan(memory, StepCost(groups, {"collectives": 1e-3}, 5.0), 3.0)


def install(monkeypatch, **options):
    """Puts one in the place of the real one and returns it."""
    found = Compiler(**options)
    monkeypatch.setattr(planned_step, "_compiled", found)
    return found


def config(**changes):
    values = pretrain_base.get_config("tiny")
    values.model.update(layers=12, heads=2)
    values.update(dict(batch_size=64, steps=1000) | changes)
    return values


def plan(values, *, fast=False, search_for=False, as_json=True, topologies=("v5e:2x4",)):
    return planning.run(values, list(topologies), fast=fast, search_for=search_for, as_json=as_json)
