"""The TPU compiler's door: names of slices, and what it says when memory runs out."""

import importlib.util
import itertools
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from unittest import mock

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from bert_jax.config import MeshConfig
from bert_jax.errors import InputError
from bert_jax.training import aot
from bert_jax.training.hardware import TPUS
from bert_jax.training.sharding import host_part, make_mesh


@pytest.mark.parametrize("name", ["v9:4x4", "v5e:3x3", "v5e", "v5e:4x4x4", "", "cpu:1"])
def test_an_unknown_slice_lists_the_known(name):
    with pytest.raises(InputError) as raised:
        aot.devices(name)
    message = str(raised.value)
    assert message.startswith(f"--topology={name} is not known")
    assert all(f"{version}: {tpu.shapes[0]} " in message for version, tpu in TPUS.items())


def test_without_the_compiler_the_command_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"an extra: pip install bert_jax\[tpu-plan\]\.$"):
        aot.devices("v5e:4x4")


@pytest.mark.slow  # those have the compiler
@pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="the shapes of slices are in libtpu"
)
@pytest.mark.parametrize("name", ["v4:2x2x4", "v5e:4x8", "v5p:4x4x4", "v6e:4x4", "v6e:8x8"])
def test_a_slice_makes_every_mesh_of_its_chips(name):
    _, chips = aot.devices(name)
    powers = [2**power for power in range(7)]
    for data, fsdp, tensor in itertools.product(powers, powers, (1, 2, 4, 8, 16)):
        if data * fsdp * tensor == len(chips):
            mesh = make_mesh(MeshConfig(data, fsdp, tensor), chips)
            assert tuple(mesh.shape.values()) == (data, fsdp, tensor)
            assert set(mesh.devices.flat) == set(chips)
            host_part(mesh)


def test_the_compiler_is_the_one_whose_estimates_are_pinned():
    """And is named once: make test-slow installs the extra that the message names."""
    root = Path(__file__).parents[2]
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
    (wanted,) = project["optional-dependencies"]["tpu-plan"]
    version = wanted.partition(";")[0].removeprefix("libtpu==")
    assert f'PINNED = {{"{version}": ' in (root / "tests/integration/test_plan.py").read_text(
        "utf-8"
    )
    makefile = (root / "Makefile").read_text("utf-8")
    assert "--editable .[dev,tpu-plan]\n" in makefile
    assert "libtpu" not in makefile


def refused(message):
    lowered = mock.Mock(spec=jax.stages.Lowered)
    lowered.compile.side_effect = jax.errors.JaxRuntimeError(message)
    return lowered


@pytest.mark.parametrize(
    ("message", "gib"),
    [
        # libtpu 0.0.52, the second where there was a program already.
        (
            "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, the total"
            " memory required for HLO temporaries (29.72G) exceeds available HBM (15.75G).",
            29.72,
        ),
        (
            "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory"
            " space hbm. Used 17.50G of 15.75G hbm. Exceeded hbm capacity by 1.75G.",
            17.5,
        ),
    ],
)
def test_a_refusal_for_memory_has_its_bytes(message, gib):
    with pytest.raises(aot.DoesNotFit) as raised:
        aot.compile_step(refused(message))
    assert raised.value.bytes == round(gib * 2**30)


def test_a_kernel_that_needs_too_much_of_the_small_memory_is_another_refusal():
    message = "RESOURCE_EXHAUSTED: Ran out of memory in memory space vmem. Used 17.5M of 16M vmem."
    with pytest.raises(jax.errors.JaxRuntimeError, match="vmem"):
        aot.compile_step(refused(message))


def test_another_refusal_is_let_through():
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        aot.compile_step(refused("INTERNAL: a bug"))


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """Whether a small program, compiled now, is stored; each call compiles another."""
    settings = {
        "jax_compilation_cache_dir": str(tmp_path),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    numbers = iter(range(3, 9))

    def is_stored():
        count, power = len(list(tmp_path.iterdir())), next(numbers)
        jax.jit(lambda x: x**power).lower(1.0).compile()
        return len(list(tmp_path.iterdir())) > count

    for name, value in settings.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    yield is_stored
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def test_no_stored_compilation_is_taken(stored):
    lowered, found = refused("INTERNAL: a bug"), []
    refusal = lowered.compile.side_effect

    def compile(**_):
        found.append(stored())
        raise refusal

    lowered.compile.side_effect = compile
    assert stored()
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        aot.compile_step(lowered)
    assert found == [False]
    assert stored()


def test_what_libtpu_writes_is_hushed_and_nothing_else():
    code = (
        "import os, sys; from bert_jax.training import aot\n"
        "with aot._hushed(): os.write(2, b'noise')\n"
        "os.write(2, b'heard')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ, capture_output=True, check=True
    )
    assert done.stderr == b"heard"
