"""SIGTERM, as a pod or a scheduler sends it before it takes a machine away."""

import signal
import threading
from typing import Any

import jax
from jax.experimental import multihost_utils


class Interruption:
    """Notes a SIGTERM, so that the loop can save between two steps.

    Of several processes all stop after the same step, whichever of them was told: JAX's
    coordination service, which watches for the signal itself, agrees on one.
    """

    def __init__(self):
        self.is_noted = False  # whether it ever came, to whichever process
        # Only the main thread may set handlers; one of a notebook's is left as it is.
        self._is_watching = (
            jax.process_count() == 1 and threading.current_thread() is threading.main_thread()
        )

    def __enter__(self) -> "Interruption":
        if self._is_watching:
            self._before = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, *_: Any) -> None:
        if self._is_watching:
            signal.signal(signal.SIGTERM, self._before)

    def is_due(self, step: int) -> bool:
        """Whether to stop after `step`; to be asked once after every step."""
        if jax.process_count() > 1:
            # True of one step only.
            self.is_noted |= multihost_utils.reached_preemption_sync_point(step)
        return self.is_noted

    def _note(self, *_: Any) -> None:
        self.is_noted = True
