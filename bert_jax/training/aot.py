"""Ahead of time: a step compiled for TPUs by their own compiler, on a machine that has none.

`pip install bert_jax[tpu-plan]` brings the compiler; jax describes the chips and hands it the
program.
"""

import contextlib
import importlib.util
import os
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jax
from jax.experimental import topologies
from jax.experimental.compilation_cache import compilation_cache
from jax.stages import Lowered

from bert_jax.errors import InputError
from bert_jax.training.hardware import TPUS, Tpu

# libtpu looks for a TPU host to run on, and lets one process at a time use it; neither matters
# where it only compiles.
_ENVIRONMENT = {"TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}
# Of a chip's large memory; a kernel may run out of the small one too.
_OUT_OF_MEMORY = re.compile(
    r"(?:temporaries \(|Used (?=[\d.]+[KMGT] of [\d.]+[KMGT] hbm))([\d.]+)([KMGT])"
)


class DoesNotFit(Exception):
    """The compiler refused a program; it wants so many bytes besides its arguments."""

    def __init__(self, bytes: int, seconds: float):
        super().__init__(f"{bytes:,} bytes")
        self.bytes = bytes
        self.seconds = seconds  # that it took to say so


class Program(NamedTuple):
    """What the compiler made of a step, for one chip."""

    text: str  # optimised HLO with the compiler's estimates
    arguments: int  # bytes
    temporaries: int  # results that are not written over arguments included
    code: int
    seconds: float  # that compiling took


def devices(topology: str) -> tuple[Tpu, list[jax.Device]]:
    """The chips of a slice such as v5e:4x4; a device is a chip, on v4 and v5p of two cores.

    Raises InputError for what is rented out under no such name, and where libtpu is missing.
    """
    version, _, shape = topology.partition(":")
    if version not in TPUS or shape not in TPUS[version].shapes:
        known = "; ".join(f"{name}: {' '.join(tpu.shapes)}" for name, tpu in TPUS.items())
        raise InputError(f"--topology={topology} is not known: write VERSION:SHAPE, of {known}.")
    if importlib.util.find_spec("libtpu") is None:
        raise InputError(
            "libtpu, which holds the TPU compiler, is an extra: pip install bert_jax[tpu-plan]."
        )
    os.environ.update(_ENVIRONMENT)
    # Else a v4 would be two devices of a core each.
    options = {"chip_config_name": "megacore"} if version == "v4" else {}
    with _hushed():
        described = topologies.get_topology_desc(topology, platform="tpu", **options)
    return TPUS[version], list(described.devices)


def compile_step(lowered: Lowered) -> Program:
    """Compiles a step that was lowered for TPUs. Raises DoesNotFit where memory runs out."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        # as_text() goes through jaxlib, which does not know all that libtpu writes.
        options = {"xla_dump_to": folder, "xla_dump_hlo_as_text": True}
        try:
            with _hushed(), _uncached():
                compiled = lowered.compile(compiler_options=options)
        except jax.errors.JaxRuntimeError as error:
            found = _OUT_OF_MEMORY.search(str(error))
            if "RESOURCE_EXHAUSTED" not in str(error) or not found:
                raise
            scale = 2 ** (10 * (1 + "KMGT".index(found[2])))
            bytes = round(float(found[1]) * scale)
            raise DoesNotFit(bytes, time.monotonic() - start) from error
        (path,) = Path(folder).glob("*.after_codegen.txt")
        text = path.read_text("utf-8")
    memory = compiled.memory_analysis()
    return Program(
        text=text,
        arguments=memory.argument_size_in_bytes,
        temporaries=memory.temp_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes,
        code=memory.generated_code_size_in_bytes,
        seconds=time.monotonic() - start,
    )


@contextlib.contextmanager
def _uncached() -> Iterator[None]:
    """A stored compilation leaves no text behind, and nothing here could load it."""
    before = jax.config.jax_enable_compilation_cache
    try:
        _use_cache(False)
        yield
    finally:
        _use_cache(before)


def _use_cache(is_used: bool) -> None:
    jax.config.update("jax_enable_compilation_cache", is_used)
    compilation_cache.reset_cache()  # what was decided at the first compilation holds till then


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """Without what libtpu writes to stderr past Python; what goes wrong it raises as well."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
