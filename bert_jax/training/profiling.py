"""A profiler trace of chosen steps, for TensorBoard or xprof."""

from pathlib import Path
from typing import Any

import jax
from jaxtyping import PyTree

PROFILE = "profile"


class Trace:
    """Records `steps` steps after step `start` into `workdir/profile`; start 0 is never.

    Of several processes each has a folder of its own there.
    """

    def __init__(self, workdir: Path, *, start: int, steps: int):
        self._directory = workdir / PROFILE
        if jax.process_count() > 1:  # jax names the files by host, which may have several
            self._directory /= f"process_{jax.process_index()}"
        self._start = start
        self._stop = start + steps
        self._is_on = False

    def __enter__(self) -> "Trace":
        return self

    def __exit__(self, *_: Any) -> None:
        self._end()

    def after(self, step: int, state: PyTree) -> None:
        """Starts or ends the trace where it is time; `state` is that after `step`."""
        if step == self._start and step > 0:
            jax.block_until_ready(state)
            jax.profiler.start_trace(str(self._directory))
            self._is_on = True
        elif step == self._stop:
            jax.block_until_ready(state)
            self._end()

    def _end(self) -> None:
        if self._is_on:
            jax.profiler.stop_trace()
            self._is_on = False
