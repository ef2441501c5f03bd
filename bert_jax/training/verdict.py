"""How a read of a checkpoint went: one verdict, which all processes come to together.

What one of them meets the others may not, and still all must go on from the same checkpoint.
"""

import textwrap
from collections.abc import Callable
from typing import TypeVar

import jax

from bert_jax.errors import InputError, first_line, root_cause
from bert_jax.training.distributed import highest
from bert_jax.training.record import Damaged, OtherFormat

T = TypeVar("T")

# The worse the higher: damage sends a run to the checkpoint before, and what else there is ends it.
WELL, DAMAGED, UNREADABLE = range(3)
# Signs that the machine, not the checkpoint, is at fault.
TRANSIENT = ("PERMISSION_DENIED", "Permission denied", "RESOURCE_EXHAUSTED", "Too many open files")


def agreed(name: str, read: Callable[[], T]) -> T:
    """What `read` returns, where it returns in every process; waits for all of them.

    `name` is the checkpoint's. Raises Damaged where that is at fault in any process, in all of
    them, and what ends a run before that: OtherFormat, or InputError for the machine's faults.
    """
    value, fault = None, None
    try:
        value = read()
    except Exception as error:
        fault = _fault(name, error)
    own = _gravity(fault)
    worst = highest(own)
    if worst == WELL:
        return value
    if own == worst:
        raise fault from None  # where nothing is wrapped it would be its own cause
    if worst == DAMAGED:
        raise Damaged("another process could not read it")
    raise InputError(f"{name} could not be read by another process: see what that one says.")


def _gravity(fault: BaseException | None) -> int:
    if fault is None:
        return WELL
    return DAMAGED if isinstance(fault, Damaged) else UNREADABLE


def _fault(name: str, error: Exception) -> BaseException:
    cause = root_cause(error)
    if isinstance(cause, Damaged | OtherFormat):
        return cause
    # Orbax wraps whatever was raised in a KeyError, an interrupt too.
    if not isinstance(cause, Exception):
        return cause
    if isinstance(cause, MemoryError | jax.errors.JaxRuntimeError):
        return cause
    reason = textwrap.shorten(first_line(cause), 120)
    if any(sign in str(cause) for sign in TRANSIENT):
        return InputError(
            f"{name} cannot be read now ({reason}): mend that and run the command again."
        )
    return Damaged(f"unreadable: {reason}")
