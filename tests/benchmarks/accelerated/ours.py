"""Our train step on one device: `python -m tests.benchmarks.accelerated.ours WORK_AS_JSON`.

A process of its own, started by accelerator.py: what it holds of the device's memory goes with
it. The step is that of `bert_jax.pretrain`, for batches that lie on the device already.
"""

import json
import sys
from typing import Any

import jax
import numpy as np

from bert_jax.arrays import PretrainBatch
from bert_jax.config import PretrainConfig
from bert_jax.fields import build
from bert_jax.tasks.pretrain import init_params, make_step, run_state_shapes
from bert_jax.training.hardware import peak_flops
from bert_jax.training.optimizer import make_optimizer
from bert_jax.training.sharding import one_device_mesh
from bert_jax.training.state import init_state
from tests.benchmarks.accelerated.work import (
    NO_DEVICE,
    PROBES,
    Measured,
    Work,
    give_up,
    largest_batch,
    step_ms,
    tell,
)
from tests.benchmarks.full_rows import full_rows


def make_batch(work: Work, batch_size: int) -> PretrainBatch:
    """Full rows of one instance, random tokens."""
    return full_rows(
        np.random.default_rng(0),
        rows=batch_size,
        length=work.length,
        predictions=work.predictions,
    )


class Step:
    """The compiled steps of a case."""

    def __init__(self, work: Work):
        self._work = work
        self._config = build(PretrainConfig, work.config())
        self._mesh = one_device_mesh()
        self._step = make_step(self._config, self._mesh, microbatches=1)

    def compiled(self, batch_size: int) -> Any:
        """For batches of so many rows."""
        shapes = run_state_shapes(self._config, self._mesh)
        return self._step.lower(shapes, make_batch(self._work, batch_size)).compile()

    def measure(self, batch_size: int) -> Measured:
        """Its time, with a state and a batch on the device."""
        compiled = self.compiled(batch_size)
        config, device = self._config, self._mesh.devices.flat[0]
        state = init_state(
            lambda key: init_params(config.model, key),
            make_optimizer(config.optimizer),
            seed=config.seed,
            prng=config.prng,
            mesh=self._mesh,
        )
        batch = jax.device_put(make_batch(self._work, batch_size), compiled.input_shardings[0][1])
        held = [state]

        def step() -> None:
            held[0], _ = compiled(held[0], batch)

        milliseconds = step_ms(step, lambda: jax.block_until_ready(held[0].step))
        return Measured(
            device=device.device_kind,
            batch_size=batch_size,
            step_ms=milliseconds,
            peak_bytes=_memory(device).get("peak_bytes_in_use", 0),
            planned_bytes=planned_bytes(compiled),
            peak_flops=peak_flops(device) or 0.0,
        )

    def batch_size(self) -> int:
        """The largest that the compiler says fits."""
        limit = _memory(self._mesh.devices.flat[0]).get("bytes_limit")
        if limit is None:
            return PROBES[0]
        return largest_batch({n: planned_bytes(self.compiled(n)) for n in PROBES}, limit)


def planned_bytes(compiled: Any) -> int:
    """Arguments, results that are not written over them, and what comes between."""
    memory = compiled.memory_analysis()
    return (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
        + memory.temp_size_in_bytes
        + memory.generated_code_size_in_bytes
    )


def _memory(device: jax.Device) -> dict[str, int]:
    return device.memory_stats() or {}  # a CPU has none


def main() -> None:
    """Prints what was measured; without an accelerator exits with NO_DEVICE."""
    work = Work(**json.loads(sys.argv[1]))
    if work.device == "cpu":
        jax.config.update("jax_platforms", "cpu")
    elif jax.default_backend() == "cpu":
        sys.exit(NO_DEVICE)
    step = Step(work)
    batch_size = work.batch_size or step.batch_size()
    try:
        tell(step.measure(batch_size))
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        give_up(batch_size)


if __name__ == "__main__":
    main()
