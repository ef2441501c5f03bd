"""Plans by the real TPU compiler, on a machine without a TPU."""

import functools
import importlib.metadata
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cli.conftest import run_command
from jax.experimental import pallas as pl
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from bert_jax.errors import InputError
from bert_jax.model import kernel_work
from bert_jax.model.kernel_work import KernelWork, Operand
from bert_jax.tasks import planning
from bert_jax.tasks.planned_step import lower_step
from bert_jax.tasks.slice_plan import Slice, mesh_for
from bert_jax.tasks.step_cost import EXCHANGES, step_cost
from bert_jax.training import aot
from bert_jax.training.aot import compile_step
from bert_jax.training.hardware import compiler_options
from configs import pretrain_base
from tests.benchmarks import planned_changes, planned_peer

pytest.importorskip("libtpu", reason="libtpu is an extra: pip install bert_jax[tpu-plan]")
pytestmark = pytest.mark.slow

# Milliseconds of two_layers() on v5e:4x4, by the libtpu that says so: another may say otherwise.
PINNED = {"0.0.52": 14.107}


def sized(layers, **changes):
    values = pretrain_base.get_config()
    sizes = dict(width=256, heads=4, feed_forward=1024, positions=128, vocab_size=8000)
    values.model.update(layers=layers, **sizes)
    values.masking.max_predictions = 20
    values.update(changes)
    return values


def base(layers):
    """BERT-Base, 256 rows of 512 tokens, parameters in parts; of fewer layers."""
    values = pretrain_base.get_config()
    values.model.layers = layers
    values.mesh.update(data=1, fsdp=16)
    return values


@pytest.fixture(autouse=True, scope="module")
def optimised():
    """As the command compiles, not as the tests do."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@functools.cache
def two_layers():
    (numbers,) = planning.run(base(2), ["v5e:4x4"], fast=False, search_for=False, as_json=True)
    return numbers


def test_the_estimate_of_two_layers_stays():
    version = importlib.metadata.version("libtpu")
    if version not in PINNED:
        pytest.skip(f"pinned with libtpu {', '.join(PINNED)}, and {version} is installed")
    assert two_layers()["step_ms"] == pytest.approx(PINNED[version], rel=0.01)


def test_the_parts_of_a_step_are_found():
    groups = two_layers()["groups"]
    assert sum(groups.values()) == pytest.approx(two_layers()["step_ms"])
    # Most of dropout is within the kernels of what is dropped from.
    parts = set(groups) - {"other", "copies", "dropout"}
    assert all(groups[name] > 0.02 * two_layers()["step_ms"] for name in parts), groups
    assert groups["other"] < 0.05 * two_layers()["step_ms"]


def test_fast_is_within_five_percent():
    # Of real sizes: a small model's first layers find room on the chip that later ones do not.
    plan = functools.partial(planning.run, base(4), ["v5e:4x4"], search_for=False, as_json=True)
    (full,), (fast,) = plan(fast=False), plan(fast=True)
    for name in ("step_ms", "bytes_per_chip"):
        assert fast[name] == pytest.approx(full[name], rel=0.05), name


def test_only_json_is_printed():
    flags = [f"--config.model.{name}={size}" for name, size in dict(width=64, layers=1).items()]
    done = run_command(
        "plan", "--config=configs/pretrain_base.py:tiny", "--topology=v6e:2x2", "--json", *flags
    )
    assert done.returncode == 0, done.stderr.decode()
    (numbers,) = json.loads(done.stdout)
    assert numbers["fits"]
    assert numbers["topology"] == "v6e:2x2"
    (said,) = done.stderr.decode().splitlines()  # nothing of libtpu's
    assert said.startswith("compiled 1 layers on a mesh of 4 x 1 x 1")


def test_a_step_too_large_is_refused_with_its_bytes():
    values = sized(1, batch_size=2**15)
    values.model.update(dropout=0.0, attention_dropout=0.0)  # compiles in half the time
    with pytest.raises(InputError, match=r"v5e:1x1 has [\d,]+ bytes too few .* GiB and fits\.$"):
        planning.run(values, ["v5e:1x1"], fast=False, search_for=False, as_json=True)


def test_a_pallas_kernel_goes_by_its_name(monkeypatch):
    tpu, devices = aot.devices("v5e:1x1")
    sharding = NamedSharding(Mesh(np.array(devices), "x"), PartitionSpec())
    rows = jax.ShapeDtypeStruct((64, 256), jnp.float32, sharding=sharding)

    def kernel(a, b):
        b[...] = a[...] + 1

    def call(a):
        return pl.pallas_call(
            kernel, out_shape=jax.ShapeDtypeStruct(a.shape, a.dtype), name="mine"
        )(a)

    def rounds(a):
        return jax.lax.scan(lambda a, _: (call(a), None), a, length=7)[0]

    text = compile_step(jax.jit(rounds).lower(rows)).text
    with pytest.raises(InputError, match="Pallas kernel 'mine'"):
        step_cost(text, tpu)
    work = KernelWork(0, 0, 0, elementwise=4 * 1024 * 1.5e9, bytes=0)
    seen = [Operand((64, 256), 4)], 128
    monkeypatch.setitem(
        kernel_work.KERNELS, "mine", lambda *given: work if given == seen else 1 / 0
    )
    assert step_cost(text, tpu).by_formula["Pallas kernels"] == pytest.approx(7.0)


def test_the_step_of_peers_is_planned():
    pytest.importorskip("transformers", reason="an extra: pip install bert_jax[peers]")
    where = Slice.named("v5e:2x2")
    with planned_changes.undone(sized(4, batch_size=64), None) as work:
        numbers = planned_peer.plan(work.config, where)
    whole = step_cost(compile_step(planned_peer.lower(work.config, where, 4)).text, where.tpu)
    assert numbers["step_ms"] == pytest.approx(1e3 * whole.seconds, rel=0.05)
    exchanges = 1e3 * whole.by_formula[EXCHANGES]
    assert numbers["by_formula"] == {EXCHANGES: pytest.approx(exchanges, rel=0.05)}
    assert numbers["fits"]


def test_every_change_that_is_undone_makes_another_step():
    where = Slice.named("v5e:2x2")
    steps: dict[str, list[str]] = {}
    for change in (None, *planned_changes.CHANGES, None):
        values = sized(1)
        values.mesh.update(data=1, fsdp=4)
        with planned_changes.undone(values, change) as work:
            mesh = mesh_for(work, where)
            text = lower_step(*work.steps(), mesh).as_text() + str(compiler_options(mesh))
        steps.setdefault(text, []).append(change.name if change else "")
    assert len(steps) == len(planned_changes.CHANGES) + 1, list(steps.values())
