"""Where the time of a run goes, over all its starts."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

STARTING = "starting"  # until the first step: data, state, checkpoint
COMPILING = "compiling"
STEPPING = "stepping"  # the useful part
WAITING = "waiting"  # for data
LOGGING = "logging"
EVALUATING = "evaluating"
SAVING = "saving"  # until training goes on; writing itself goes on beside it


class Clock:
    """Seconds by activity, of the work that counts: what a killed run had done since its last
    checkpoint is in nobody's `record`, and so in no sum but the time since the first start.

    `first_start` is the Unix time at which the run was begun for the first time, `record`
    what `record()` gave at the checkpoint gone on from.
    """

    def __init__(
        self,
        first_start: float,
        record: Mapping[str, Any] | None = None,
        *,
        now: Callable[[], float] = time.time,
    ):
        self._now = now
        self._first_start = first_start
        self._spent = Counter((record or {}).get("spent", {}))
        self._activity = STARTING
        self._since = now()

    @contextmanager
    def spend(self, activity: str) -> Iterator[None]:
        """The time until the block ends counts as `activity`, less what is spent within."""
        before = self._switch(activity)
        try:
            yield
        finally:
            self._switch(before)

    def spent(self) -> dict[str, float]:
        """Seconds by activity up to now."""
        self._switch(self._activity)
        return dict(self._spent)

    def elapsed(self) -> float:
        """Seconds of all activities together: the time between starts is left out."""
        return sum(self.spent().values())

    def goodput(self) -> float:
        """Share of the time since the first start, down times included, spent in steps whose
        result was kept."""
        spent = self.spent()  # reads the clock first, so the share stays below 1
        return spent.get(STEPPING, 0.0) / max(self._now() - self._first_start, 1e-9)

    def record(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""
        return {"spent": self.spent()}

    def _switch(self, activity: str) -> str:
        now, before = self._now(), self._activity
        self._spent[before] += now - self._since
        self._activity, self._since = activity, now
        return before
