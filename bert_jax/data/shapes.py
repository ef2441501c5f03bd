"""The shapes that batches of packed texts come in: few, for each is compiled for."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from bert_jax.data.encoding import bucket
from bert_jax.data.rows import pack


class Shape(NamedTuple):
    """Of the rows that texts are packed into."""

    rows: int
    length: int  # tokens


class Costs(NamedTuple):
    """In any unit."""

    of_step: Callable[[Shape], float]
    of_compilation: float


def own_shape(lengths: Sequence[int], length: int, *, multiple: int) -> Shape:
    """Rows of `length` tokens for texts of so many: as few as best fit finds, or below a quarter
    more, of few numbers and never more than texts; then a multiple of `multiple`."""
    rows = min(_rounded_up(len(pack(lengths, length))), len(lengths))
    return Shape(-(-rows // multiple) * multiple, length)


def common_shape(batches: Sequence[Sequence[int]], *, max_length: int, multiple: int) -> Shape:
    """One that holds the texts of each of the batches."""
    length = bucket(max(map(max, batches)), max_length)
    rows = max(own_shape(lengths, length, multiple=multiple).rows for lengths in batches)
    return Shape(rows, length)


def holds(shape: Shape, lengths: Sequence[int]) -> bool:
    """Whether texts of so many tokens can be packed into it."""
    return max(lengths) <= shape.length and len(pack(lengths, shape.length)) <= shape.rows


class Shapes:
    """Of the shapes that batches need those which are worth their compilation.

    What is weighed is what `steps` steps cost when the batches are like the `samples` (the
    lengths of the texts of each). One shape after the other is given up, the dearest to keep
    first, as long as its batches cost less in others.
    """

    def __init__(
        self,
        samples: Sequence[Sequence[int]],
        costs: Costs,
        *,
        steps: int,
        max_length: int,
        multiple: int,
    ):
        self._max_length = max_length
        self._multiple = multiple
        found = sorted({self._own(lengths) for lengths in samples}, key=costs.of_step)
        is_held = np.array([[holds(shape, lengths) for shape in found] for lengths in samples])
        of_steps = np.array([costs.of_step(shape) for shape in found]) * steps / len(samples)
        kept = _worth_it(np.where(is_held, of_steps, np.inf), costs.of_compilation)
        self._chosen = [found[index] for index in kept]

    def of(self, lengths: Sequence[int]) -> Shape:
        """The cheapest that holds these texts; their own where none does."""
        found = (shape for shape in self._chosen if holds(shape, lengths))
        return next(found, None) or self._own(lengths)

    def _own(self, lengths: Sequence[int]) -> Shape:
        return common_shape([lengths], max_length=self._max_length, multiple=self._multiple)


def _worth_it(costs: Float[np.ndarray, "N S"], of_compilation: float) -> list[int]:
    """Which shapes to keep, for what each batch costs in each of them, infinity where it is not
    held, and what each shape costs once."""

    def total(kept: list[int]) -> float:
        return costs[:, kept].min(axis=1, initial=np.inf).sum() + of_compilation * len(kept)

    kept = list(range(costs.shape[1]))
    while True:
        best = min(([one for one in kept if one != dropped] for dropped in kept), key=total)
        if total(best) >= total(kept):
            return kept
        kept = best


def _rounded_up(number: int) -> int:
    """To three binary digits and zeros."""
    unit = 2 ** max(number.bit_length() - 3, 0)
    return -(-number // unit) * unit
