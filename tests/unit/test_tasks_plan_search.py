"""What is tried where a plan does not fit, and in a search; the compiler is made up."""

import json

import pytest
from made_up_compiler import GIB, V5E, config, plan

from bert_jax.errors import InputError
from bert_jax.tasks import planned_step
from configs import pretrain_phases

pytestmark = pytest.mark.usefixtures("eight_chips")


def test_too_much_names_the_bytes_and_what_fits(compiler, capsys):
    # 8 rows a chip, 12 layers, a quarter of a GiB each: 24 of 15.75 GiB.
    compiler(gib_a_row=0.25)
    with pytest.raises(InputError) as raised:
        plan(config())
    over = 24 * GIB + 123 - V5E.hbm_bytes
    assert str(raised.value) == (
        f"a chip of v5e:2x4 has {over:,} bytes too few for this step:"
        " with --config.microbatches=2 it needs 12.00 GiB and fits."
    )
    (numbers,) = json.loads(capsys.readouterr().out)
    assert not numbers["fits"]


def test_as_many_microbatches_as_the_memory_asks_for_are_tried_next(compiler):
    found = compiler(gib_a_row=1.0)  # 96 GiB at once, 12 in eight parts
    with pytest.raises(InputError, match=r"with --config\.microbatches=8 it needs 12\.00 GiB"):
        plan(config())
    assert [microbatches for _, _, microbatches, _ in found.steps] == [1, 8]


def test_any_number_of_microbatches_that_divides_the_rows_of_a_chip_is_tried(compiler):
    # 12 rows a chip, 72 GiB at once: four and eight parts would not do, six have 12 GiB.
    found = compiler(gib_a_row=0.5)
    with pytest.raises(InputError, match=r"with --config\.microbatches=6 it needs 12\.00 GiB"):
        plan(config(batch_size=96))
    assert [microbatches for _, _, microbatches, _ in found.steps] == [1, 6]
    # The rows of a chip are those of the mesh: 6, where the tensor axis takes what is left.
    found = compiler(gib_a_row=0.25)
    with pytest.raises(InputError, match=r"with --config\.microbatches=2 it needs 9\.00 GiB"):
        plan(config(batch_size=24, mesh=dict(data=4, fsdp=1, tensor=-1)))


def test_every_phase_gets_a_number_of_its_own(compiler):
    compiler(gib_a_row=0.25)
    values = pretrain_phases.get_config("tiny")
    values.update(batch_size=64)
    values.model.update(layers=12, heads=2)
    values.then[0].update(batch_size=24, microbatches=1)
    flags = r"--config\.microbatches=2 --config\.then\[0\]\.microbatches=3"
    with pytest.raises(InputError, match=rf"with {flags} it needs 12\.00 GiB"):
        plan(values)


def test_where_the_state_alone_is_too_much_more_of_it_is_sharded(compiler):
    found = compiler(state_gib=20)
    with pytest.raises(
        InputError, match=r"with --config\.mesh\.fsdp=4 it needs 5\.10 GiB and fits"
    ):
        plan(config())
    # Neither microbatches nor layers computed again would have helped.
    assert found.meshes == [(8, 1, 1), (2, 4, 1)]
    compiler(state_gib=100)
    with pytest.raises(
        InputError, match=r"with --config\.mesh\.fsdp=8 it needs 12\.60 GiB and fits"
    ):
        plan(config())


def test_a_mesh_that_shards_more_may_need_microbatches_or_layers_again_too(compiler):
    compiler(state_gib=20, gib_a_row=0.2)
    with pytest.raises(
        InputError, match=r"mesh\.fsdp=4 --config\.microbatches=2 it needs 14\.60 G"
    ):
        plan(config())
    compiler(state_gib=20, gib_a_row=3)
    flags = r"mesh\.fsdp=4 --config\.model\.remat=full --config\.microbatches=8"
    with pytest.raises(InputError, match=rf"{flags} it needs 14\.00 G"):
        plan(config())


def test_meshes_that_shard_no_more_are_not_tried(compiler):
    found = compiler(state_gib=200)
    with pytest.raises(InputError, match="no microbatches, remat or mesh tried helps: take more"):
        plan(config(mesh=dict(data=2, fsdp=2, tensor=2)))
    assert found.meshes == [(2, 2, 2), (1, 8, 1), (1, 4, 2)]


def test_layers_are_computed_again_where_parts_do_not_help(compiler):
    compiler(gib_a_row=4.0)  # one row of a chip wants 48 GiB
    with pytest.raises(InputError, match=r"with --config\.model\.remat=full .*needs 12\.00 GiB"):
        plan(config(microbatches=8))


def test_where_nothing_helps_more_chips_do(compiler):
    compiler(gib_a_row=40.0)
    with pytest.raises(
        InputError, match="no microbatches, remat or mesh tried helps: take more chips"
    ):
        plan(config())
    # A quarter of 8 rows x 12 layers x 40 GiB; in parts it would not fit either.
    nearest = "mesh.data -1, mesh.fsdp 8, mesh.tensor 1, model.remat full, microbatches 1"
    over = 960 * GIB + 123 - V5E.hbm_bytes
    message = f"fits v5e:2x4, and of the nearest, {nearest}, a chip has {over:,} bytes too few"
    with pytest.raises(InputError, match=message):
        plan(config(), search_for=True)


def test_a_search_ends_with_the_flags_of_the_fastest(compiler, capsys):
    mesh_ms = {(8, 1, 1): 30, (2, 4, 1): 15, (1, 8, 1): 10}
    mesh_ms |= {(4, 1, 2): 20, (2, 2, 2): 25, (1, 4, 2): 40}
    found = compiler(gib_a_row=0.25, mesh_ms=mesh_ms)
    (numbers,) = plan(config(microbatches=8), search_for=True)
    assert numbers["flags"] == "--config.mesh.fsdp=8 --config.microbatches=2"
    assert numbers["mesh"] == {"data": 1, "fsdp": 8, "tensor": 1}
    assert numbers["fits"]
    remats = [remat for *_, remat in found.steps]
    assert remats.count("none") >= 12  # each mesh with one and with two microbatches
    assert {"dots", "full"} < set(remats)
    progress = capsys.readouterr().err.splitlines()
    assert progress[0] == "v5e:2x4: at most 10 candidates"
    assert [line.split()[0] for line in progress[1:]] == [f"[{i}/10]" for i in range(1, 11)]
    assert progress[4] == (
        "[4/10] mesh.data -1, mesh.fsdp 8, mesh.tensor 1, model.remat none, microbatches 2:"
        " 108.20 ms"
    )


def test_a_search_tries_copies_of_a_state_in_parts(compiler):
    compiler(mesh_ms={(8, 1, 1): 2, (2, 4, 1): 1, (1, 8, 1): 2})
    values = config()
    values.model.heads = 1  # are not split
    (numbers,) = plan(values, search_for=True)
    assert numbers["flags"] == "--config.mesh.fsdp=4"
    assert numbers["mesh"] == {"data": 2, "fsdp": 4, "tensor": 1}


@pytest.mark.parametrize(
    "asked",
    [
        dict(mesh=dict(data=4, fsdp=2, tensor=1)),  # of none of the other candidates
        dict(remat="dots", mesh=dict(data=-1, fsdp=2, tensor=1)),
        dict(mesh=dict(data=-1, fsdp=2, tensor=1), microbatches=4),
        dict(),  # as fast as others
    ],
)
def test_a_search_ends_without_flags_where_nothing_beats_the_config(
    asked, compiler, monkeypatch, capsys
):
    found = compiler(mesh_ms={(4, 2, 1): -2} if asked else {})

    def quick(step, tpu, mesh):
        of = found(step, tpu, mesh)
        same = step.config.model.remat == asked.get("remat", "none")
        if asked and same and step.phase.microbatches == asked.get("microbatches", 1):
            of.cost.groups["attention"] = 1e-3
        return of

    monkeypatch.setattr(planned_step, "_compiled", quick)
    values = config(**{name: asked[name] for name in asked if name != "remat"})
    values.model.remat = asked.get("remat", "none")
    (numbers,) = plan(values, search_for=True, as_json=False)
    assert numbers["flags"] == ""
    said = capsys.readouterr()
    assert "v5e:2x4: nothing tried is faster than the config as it is." in said.out
    tried = [line.split(": ")[0].split("] ")[1] for line in said.err.splitlines()[1:]]
    assert len(set(tried)) == len(tried)


def test_a_search_computes_layers_again_where_most_is_sharded_if_nothing_fits(compiler):
    compiler(state_gib=80, gib_a_row=1.2)
    values = config()
    values.model.heads = 1  # are not split
    (numbers,) = plan(values, search_for=True)
    flags = "--config.mesh.fsdp=8 --config.model.remat=full --config.microbatches=8"
    assert numbers["flags"] == flags


def test_a_search_goes_on_where_what_was_asked_for_would_not_run(compiler):
    compiler()
    (numbers,) = plan(config(mesh=dict(data=1, fsdp=3, tensor=1)), search_for=True)
    assert numbers["flags"] == "--config.mesh.data=-1 --config.mesh.fsdp=1"


def test_layers_computed_again_may_be_the_fastest(compiler, monkeypatch):
    found = compiler()

    def quick(step, tpu, mesh):
        of = found(step, tpu, mesh)
        if step.config.model.remat == "dots":
            of.cost.groups["attention"] = 1e-3
        return of

    monkeypatch.setattr(planned_step, "_compiled", quick)
    (numbers,) = plan(config(), search_for=True)
    assert numbers["flags"] == "--config.model.remat=dots"
