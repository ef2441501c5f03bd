"""A tensor in somebody's file, and what every reader makes of a file it cannot read."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Shaped

from bert_jax.errors import InputError, first_line

# By the names that PyTorch models of Hugging Face have, whatever wrote the file.
Tensors = dict[str, "Stored"]


class Stored(NamedTuple):
    """A tensor laid out as PyTorch has it: a weight is (out, in). Read when it is wanted."""

    source: str  # its name in the file
    shape: tuple[int, ...]
    read: Callable[[], Shaped[np.ndarray, "..."]]


def in_memory(source: str, array: Shaped[np.ndarray, "..."]) -> Stored:
    """Of an array that has been read."""
    return Stored(source, array.shape, lambda: array)


@contextlib.contextmanager
def reading(path: Path, *damage: type[Exception]) -> Iterator[None]:
    """What a damaged file raises becomes one sentence."""
    try:
        yield
    except InputError:  # has its sentence, and is a ValueError too
        raise
    except damage as error:
        raise InputError(
            f"{path} is truncated or damaged ({first_line(error)}): fetch it again."
        ) from error
    except OSError as error:
        raise InputError(f"{path} cannot be read ({first_line(error)}): mend that.") from error
