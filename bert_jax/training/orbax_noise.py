"""What Orbax says beside the errors it raises: pages on stderr, where one sentence is told.

Of a load that fails it leaves the reads of the other arrays to themselves. Some are never
awaited, some end when nobody listens any more, and all complain whenever they are collected.
"""

import functools
import logging
import sys
import warnings
from typing import Any

_FILES = "/orbax/checkpoint/"


@functools.cache
def hush() -> None:
    """From now on Orbax's errors are only raised."""
    for name in ("absl", "asyncio"):
        logging.getLogger(name).addFilter(_is_of_others)
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    before = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        # What a read meets that ends after its loop has, and what is in a coroutine's own code.
        is_late = str(unraisable.exc_value) == "Event loop is closed"
        code = getattr(unraisable.object, "cr_code", None)
        if not is_late and not (code and _FILES in code.co_filename):
            before(unraisable)

    sys.unraisablehook = hook


def _is_of_others(entry: logging.LogRecord) -> bool:
    # Asyncio logs the error of an abandoned read, and names the coroutine with its file.
    return _FILES not in entry.pathname and _FILES not in entry.getMessage()
