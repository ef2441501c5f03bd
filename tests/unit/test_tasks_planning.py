"""Plans put together from what a compiler would say; the compiler is made up."""

import json
from unittest import mock

import jax
import pytest
import small
from made_up_compiler import GIB, V5E, config, plan
from small import model_config
from unit.test_tasks_step_cost import program, scoped

from bert_jax.config import PretrainConfig
from bert_jax.errors import InputError
from bert_jax.fields import build
from bert_jax.model.flops import training_flops
from bert_jax.tasks import planned_step, planning, start
from bert_jax.tasks.planned_step import OPTIMIZER, PARAMETERS, REST
from bert_jax.tasks.saved_model import SavedModel
from bert_jax.training import aot
from bert_jax.training.aot import Program
from configs import pretrain_phases

pytestmark = pytest.mark.usefixtures("eight_chips")


def test_the_numbers_of_a_step(compiler, capsys):
    compiler()
    (numbers,) = plan(config())
    step_ms = 12 * 8 + 2 + 0.1
    assert numbers["step_ms"] == pytest.approx(step_ms)
    assert sum(numbers["groups"].values()) == pytest.approx(step_ms)
    assert numbers["sequences_per_second"] == pytest.approx(64e3 / step_ms)
    assert numbers["hours"] == pytest.approx(step_ms / 3600)
    assert (numbers["by_formula"], numbers["hidden_bytes"]) == ({"collectives": 1.0}, 5.0)
    assert numbers["bytes_per_chip"] == 3 + 120 + round(8 * 12 * 0.001 * GIB)
    assert (numbers["fits"], numbers["hbm_bytes"], numbers["chips"]) == (True, V5E.hbm_bytes, 8)
    row = training_flops(
        model_config(layers=12, vocab_size=30_522), length=512, predictions=20, instances=8
    )
    assert numbers["mfu"] == pytest.approx(64 * row / (step_ms / 1e3 * 8 * 197e12))
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps([numbers]))


def test_fast_goes_on_in_a_straight_line(compiler, monkeypatch):
    compiler()
    monkeypatch.setattr(planned_step, "_state_bytes", lambda *_: {PARAMETERS: 1, OPTIMIZER: 2})
    (full,) = plan(config())
    few = compiler()
    (fast,) = plan(config(), fast=True)
    assert [layers for layers, *_ in few.steps] == [2, 3]
    assert fast["step_ms"] == pytest.approx(full["step_ms"])
    assert fast["bytes_per_chip"] == pytest.approx(full["bytes_per_chip"])
    assert fast["compile_seconds"] == 2 * full["compile_seconds"]


def test_phases_add_up(compiler):
    compiler()
    values = pretrain_phases.get_config("tiny")
    values.update(batch_size=64, steps=300)
    values.then[0].update(steps=100, batch_size=32)
    (numbers,) = plan(values)
    first, second = numbers["phases"]
    assert first["hours"] + second["hours"] == pytest.approx(numbers["hours"])
    assert numbers["step_ms"] == pytest.approx((3 * first["step_ms"] + second["step_ms"]) / 4)
    assert (numbers["steps"], second["steps"]) == (400, 100)
    assert numbers["bytes_per_chip"] == first["bytes_per_chip"] > second["bytes_per_chip"]


def test_a_run_ends_when_its_time_is_up(compiler, capsys):
    compiler()
    (numbers,) = plan(config(steps=10**9, budget_minutes=1))
    assert numbers["steps"] == 611  # of 98.1 ms
    assert (
        numbers["hours"] == pytest.approx(611 * 98.1e-3 / 3600) == pytest.approx(1 / 60, rel=0.01)
    )
    assert (numbers["step_ms"], numbers["sequences_per_second"]) == (
        pytest.approx(98.1),
        pytest.approx(64e3 / 98.1),
    )
    (numbers,) = plan(config(steps=600, budget_minutes=1))
    assert (numbers["steps"], numbers["hours"]) == (600, pytest.approx(600 * 98.1e-3 / 3600))
    (numbers,) = plan(config(budget_minutes=1e-6))
    assert numbers["steps"] == 1
    capsys.readouterr()
    plan(config(steps=10**9, budget_minutes=1), as_json=False)
    printed = capsys.readouterr().out
    rows = [line.split() for line in printed.splitlines()]
    assert ["steps", "611"] in rows
    assert ["hours", "for", "all", "of", "them", "0.02"] in rows
    assert "config.budget_minutes=1 leaves time for 611 of 1,000,000,000 steps" in printed


def test_phases_share_the_time(compiler, capsys):
    compiler()
    values = pretrain_phases.get_config("tiny")
    values.update(batch_size=64, steps=300, budget_minutes=1)
    values.model.update(layers=12, heads=2)
    values.then[0].update(steps=1000, batch_size=32)
    values.then[0].learning_rate = 0.0
    (numbers,) = plan(values)
    first, second = numbers["phases"]
    # 29.43 of 60 seconds are for the first, and 30.57 for steps of 50.1 ms.
    assert (first["steps"], second["steps"], numbers["steps"]) == (300, 610, 910)
    assert numbers["hours"] == pytest.approx((300 * 98.1e-3 + 610 * 50.1e-3) / 3600)
    assert numbers["step_ms"] == pytest.approx((300 * 98.1 + 610 * 50.1) / 910)
    values.steps = 1000
    (numbers,) = plan(values)
    first, second = numbers["phases"]
    # None for the second, though a step of it would fit into what is left.
    assert (first["steps"], second["steps"], numbers["steps"]) == (611, 0, 611)
    assert (second["hours"], second["step_ms"]) == (0, pytest.approx(50.1))
    assert numbers["step_ms"] == pytest.approx(98.1)
    capsys.readouterr()
    plan(values, as_json=False)
    assert "0.02 h for 611 of them\n" in capsys.readouterr().out


def test_equal_phases_are_compiled_once(compiler):
    found = compiler()
    values = pretrain_phases.get_config("tiny")
    values.update(batch_size=64)
    values.then[0].update(batch_size=64)
    plan(values)
    assert len(found.steps) == 1


def test_the_table_says_what_is_assumed_and_what_an_estimate_is(compiler, capsys):
    compiler()
    plan(config(), as_json=False, topologies=("v5e:2x4", "v5e:4x2"))
    printed = capsys.readouterr().out
    rows = [line.split() for line in printed.splitlines()]
    assert ["v5e:2x4", "v5e:4x2"] in rows
    assert ["all", "98.10", "98.10"] in rows
    assert "config.model.positions=512" in printed
    assert "30,522 pieces" in printed
    assert "All times are estimates" in printed
    assert "\n  collectives: all bytes" in printed
    assert "Pallas" not in printed  # there is none


def test_prepared_rows_are_looked_at(compiler, monkeypatch, tmp_path, capsys):
    (tmp_path / "manifest.json").touch()
    tokenizer = small.tokenizer()
    manifest = {"length": 64, "max_instances": 3}
    monkeypatch.setattr(
        planning.Data, "open", lambda *_, **__: planning.Data(tmp_path, manifest, tokenizer)
    )
    work, notes = planning._work(build(PretrainConfig, config(data=str(tmp_path))))
    assert work.rows == ((64, 3),)
    assert work.config.model.vocab_size == tokenizer.vocab_size
    assert notes == []


def test_the_sizes_are_those_of_the_model_that_the_run_goes_on_from(
    compiler, monkeypatch, tmp_path, capsys
):
    found = compiler()
    with pytest.raises(InputError, match=rf"^{tmp_path} holds no finished checkpoint"):
        plan(config(init_from=str(tmp_path)))
    assert not found.steps
    saved = mock.Mock(
        spec=SavedModel, model=model_config(layers=3, width=8, heads=2, vocab_size=77)
    )
    monkeypatch.setattr(start.saved_model, "check_is_there", lambda _: None)
    monkeypatch.setattr(start.saved_model, "load", lambda _: saved)
    values = config(init_from=str(tmp_path))
    values.model.remat = "dots"  # is the run's own
    (numbers,) = plan(values)
    assert found.steps == [(3, 64, 1, "dots")]
    said = capsys.readouterr()
    assert json.loads(said.out) == json.loads(json.dumps([numbers]))  # and nothing else
    assert f"model: as {tmp_path} has it, 3 layers of width 8\n" in said.err
    work, notes = planning._work(build(PretrainConfig, values))
    assert work.config.model.vocab_size == 77
    assert not any("vocabulary" in note for note in notes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(batch_size=20), r"config\.batch_size=20 is not a multiple of 8"),
        (dict(mesh=dict(data=-1, fsdp=3, tensor=1)), r"config\.mesh -1 x 3 x 1 does not use the 8"),
    ],
)
def test_what_does_not_divide(changes, message):
    values = config()
    for name, value in changes.items():
        values[name].update(value) if isinstance(value, dict) else values.update({name: value})
    with pytest.raises(InputError, match=message):
        plan(values)


@pytest.fixture
def four_and_eight(monkeypatch):
    """v5e:2x2 has four chips."""
    count = {"v5e:2x2": 4}.get
    monkeypatch.setattr(aot, "devices", lambda name: (V5E, jax.devices()[: count(name, 8)]))


@pytest.mark.parametrize("search_for", [False, True])
def test_no_slice_is_planned_where_one_would_not_run(search_for, compiler, four_and_eight):
    found = compiler()
    topologies = ("v5e:2x2", "v5e:2x4")
    message = r"^v5e:2x4: config\.batch_size=20 "
    values = config(batch_size=20)
    values.model.heads = 1  # are not split
    with pytest.raises(InputError, match=message):
        plan(values, topologies=topologies, search_for=search_for)
    assert not found.steps


def test_a_slice_that_nothing_fits_takes_no_other_plan_with_it(compiler, four_and_eight, capsys):
    compiler(state_gib=100)
    topologies = ("v5e:2x4", "v5e:2x2", "v5e:4x2")
    for as_json in (True, False):
        with pytest.raises(InputError, match=r"^no plan of \d+ fits v5e:2x2, and of the nearest,"):
            plan(config(), topologies=topologies, search_for=True, as_json=as_json)
        printed = capsys.readouterr().out
        if as_json:
            assert [each["topology"] for each in json.loads(printed)] == ["v5e:2x4", "v5e:4x2"]
        else:
            assert "v5e:2x4: --config.mesh.fsdp=8" in printed
    with pytest.raises(InputError, match="fits v5e:2x2"):
        plan(config(), topologies=("v5e:2x2",), search_for=True)
    assert capsys.readouterr().out == ""


def test_a_search_among_no_meshes_and_a_plan_of_no_slices(compiler):
    compiler()
    values = config()
    values.batch_size = 18
    with pytest.raises(InputError, match="batch_size=18 divides over no mesh of the 8 chips"):
        plan(values, search_for=True)
    with pytest.raises(InputError, match="--topology names no slice"):
        planning.run(config(), [], fast=False, search_for=False, as_json=False)


def test_a_step_is_lowered_with_the_shapes_of_the_run(monkeypatch):
    """With the batch over the chips, and the state's bytes by their shards."""
    seen = []
    monkeypatch.setattr(
        planned_step,
        "compile_step",
        lambda lowered: (
            seen.append(lowered) or Program(program(scoped("%a", "x", 5)), 9_000_000, 1, 2, 3.0)
        ),
    )
    values = config(mesh=dict(data=-1, fsdp=4, tensor=1))
    values.model.update(layers=1, vocab_size=64)
    (numbers,) = plan(values)
    batch = seen[0].in_avals[0][1]
    assert batch.tokens.ids.shape == (64, 512)
    assert batch.mask_positions.shape == (64, 20)
    assert batch.cls_positions.shape == (64, 8)
    memory = numbers["memory"]
    state = 4 * sum(leaf.size for leaf in jax.tree.leaves(seen[0].in_avals[0][0].params))
    assert state / 4 < memory[PARAMETERS] < 0.3 * state
    assert memory[OPTIMIZER] == pytest.approx(2 * memory[PARAMETERS], abs=8)
    assert memory[REST] == 9_000_000 - memory[PARAMETERS] - memory[OPTIMIZER] + 2
