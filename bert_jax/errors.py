"""The exceptions a user is meant to read, and what they say of others."""

import signal
from collections.abc import Sequence


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message is one sentence that names the file, line or field and the mend.
    Entry points print it without a traceback and exit with `exit_code` (`bert_jax.cli`).
    """

    exit_code = 2


class Diverged(InputError):
    """The training fell apart: nothing was wrong with the input but its rate, or its seed."""


class Interrupted(Exception):
    """The run was told to stop and has saved what it did.

    Entry points print the message and exit with `exit_code`, as a process ended by SIGTERM
    does: a scheduler takes 0 for a run that is done, and would not start it again.
    """

    exit_code = 128 + signal.SIGTERM


def first_line(error: Exception) -> str:
    """Of its message, or its name where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def root_cause(error: BaseException) -> BaseException:
    """What the first of all raised, before others wrapped it."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def listed(names: Sequence[str]) -> str:
    """The first ten, and how many more there are."""
    more = f" and {len(names) - 10:,} more" if len(names) > 10 else ""
    return ", ".join(names[:10]) + more
