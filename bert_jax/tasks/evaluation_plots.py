"""The plots of an evaluation, as PNG."""

import io
from collections.abc import Sequence

import matplotlib

matplotlib.use("Agg")
import numpy as np
from jaxtyping import Float
from matplotlib import font_manager, ft2font, pyplot
from matplotlib.figure import Figure

from bert_jax.tasks.calibration import Bin

# Of the fonts that are there, the first that has every character. The rest are Chinese ones of
# Linux, macOS and Windows.
FONTS = (
    *("DejaVu Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC"),
    *("Source Han Sans SC", "Source Han Sans CN", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei"),
    *("Droid Sans Fallback", "PingFang SC", "Hiragino Sans GB", "Heiti TC", "Arial Unicode MS"),
    *("Microsoft YaHei", "SimHei", "SimSun"),
)
LABEL_CHARACTERS = 14  # of a longer label the beginning
COUNTED = 12  # up to so many classes the counts are written into their squares
NAMED = 40  # and up to so many the classes are named
DOTS_PER_INCH = 110


def font_for(texts: Sequence[str]) -> str | None:
    """The family that has every character of the texts; None where there is none."""
    characters = {ord(character) for text in texts for character in text}
    there = {entry.name: entry.fname for entry in reversed(font_manager.fontManager.ttflist)}
    for name in FONTS:
        if name in there and characters <= ft2font.FT2Font(there[name]).get_charmap().keys():
            return name
    return None


def draw_confusion(counts: Sequence[Sequence[int]], labels: Sequence[str]) -> bytes:
    """A square for each true and predicted class, darker the larger its share of the true."""
    matrix = np.array(counts)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    classes = len(labels)
    size = min(3.2 + 0.42 * classes, 9)
    figure, axis = pyplot.subplots(figsize=(size + 0.8, size), layout="constrained")
    image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axis, label="share of the true class", shrink=0.8)
    _name_classes(figure, axis, labels)
    axis.set(xlabel="predicted", ylabel="true")
    if classes <= COUNTED:
        for row, column in np.ndindex(matrix.shape):
            colour = "white" if shares[row, column] > 0.5 else "black"
            count = f"{matrix[row, column]:,}"
            axis.text(column, row, count, ha="center", va="center", color=colour, fontsize=8)
    return _png(figure)


def _name_classes(figure: Figure, axis: pyplot.Axes, labels: Sequence[str]) -> None:
    """By their numbers from 1 where no font has their names."""
    if len(labels) > NAMED:
        return
    shown = [" ".join(label.split()) for label in labels]
    shown = [s if len(s) <= LABEL_CHARACTERS else s[: LABEL_CHARACTERS - 1] + "…" for s in shown]
    font = font_for(shown)
    if font is None:
        shown, font = [str(number) for number in range(1, len(labels) + 1)], FONTS[0]
    # A label with a dollar sign is no formula.
    style = dict(family=font, fontsize=8, parse_math=False)
    axis.set_xticks(range(len(labels)), shown, rotation=90, **style)
    axis.set_yticks(range(len(labels)), shown, **style)


def draw_reliability(bins: Sequence[Bin]) -> bytes:
    """Accuracy against confidence, and below how many rows there are of each."""
    figure, (axis, below) = pyplot.subplots(
        2, 1, figsize=(4.6, 5.4), sharex=True, height_ratios=(3, 1), layout="constrained"
    )
    lows, width = [bin.low for bin in bins], bins[0].high - bins[0].low
    accuracy = [bin.accuracy for bin in bins]
    axis.bar(lows, accuracy, width, align="edge", edgecolor="white", label="accuracy")
    there = [bin for bin in bins if bin.rows]
    # How much is missing, or too much, at the mean confidence of the bin.
    axis.vlines(
        [bin.confidence for bin in there],
        [bin.accuracy for bin in there],
        [bin.confidence for bin in there],
        color="tab:red",
        linewidth=2,
        label="gap to the confidence",
    )
    axis.plot([0, 1], [0, 1], color="0.3", linestyle="--", linewidth=1, label="calibrated")
    axis.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))
    axis.legend(fontsize=8, loc="upper left")
    below.bar(lows, [bin.rows for bin in bins], width, align="edge", color="0.6", edgecolor="white")
    below.set(xlabel="confidence", ylabel="rows")
    for one in (axis, below):
        one.grid(alpha=0.3)
        one.set_axisbelow(True)
    return _png(figure)


def draw_scatter(targets: Float[np.ndarray, "N"], values: Float[np.ndarray, "N"]) -> bytes:
    """Predicted against true values; on the line they are equal."""
    figure, axis = pyplot.subplots(figsize=(4.6, 4.6), layout="constrained")
    axis.scatter(targets, values, s=10, alpha=0.4, linewidths=0)
    ends = [min(targets.min(), values.min()), max(targets.max(), values.max())]
    axis.plot(ends, ends, color="0.3", linestyle="--", linewidth=1)
    axis.set(xlabel="true", ylabel="predicted")
    axis.grid(alpha=0.3)
    return _png(figure)


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    # Without the version of matplotlib: the same numbers are the same bytes.
    figure.savefig(file, dpi=DOTS_PER_INCH, format="png", metadata={"Software": None})
    pyplot.close(figure)
    return file.getvalue()
