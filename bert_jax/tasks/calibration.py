"""Whether a classifier is right as often as it says."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

BINS = 15  # as Guo et al. have it


class Bin(NamedTuple):
    """Rows whose confidence is above `low` and at most `high`."""

    low: float
    high: float
    rows: int
    confidence: float  # the mean; 0 where there is no row, as below
    accuracy: float


def reliability(
    confidences: Float[np.ndarray, "N"], is_right: Bool[np.ndarray, "N"], bins: int
) -> list[Bin]:
    """Confidence against accuracy in bins of equal width."""
    edges = np.linspace(0, 1, bins + 1)
    # What is exactly on an edge belongs below it.
    numbers = np.clip(np.searchsorted(edges, confidences.astype(np.float64)) - 1, 0, bins - 1)
    rows = np.bincount(numbers, minlength=bins)
    some = np.maximum(rows, 1)
    confidence = np.bincount(numbers, confidences, minlength=bins) / some
    accuracy = np.bincount(numbers, is_right, minlength=bins) / some
    columns = (edges[:-1], edges[1:], rows, confidence, accuracy)
    return [Bin(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def expected_error(bins: list[Bin]) -> float:
    """The mean of |accuracy - confidence| over the rows, taken by bin: the expected calibration
    error of Guo et al. (arXiv:1706.04599, equation 3)."""
    rows = sum(bin.rows for bin in bins)
    return sum(bin.rows * abs(bin.accuracy - bin.confidence) for bin in bins) / rows
