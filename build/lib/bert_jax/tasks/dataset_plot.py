"""A picture of a prepared dataset."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import numpy as np
from jaxtyping import Int
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from bert_jax.data.rendering import LABELS
from bert_jax.data.statistics import COMMON, Sample, SplitStatistics, VocabularyStatistics

BARS = 32  # at most, of a histogram
GREY = "0.85"


def draw_dataset(
    path: Path,
    objective: str,
    length: int,
    splits: Mapping[str, SplitStatistics],
    samples: Mapping[str, Sample],
    token_counts: Int[np.ndarray, "V"],
    vocabulary: VocabularyStatistics,
) -> None:
    """Draws lengths, masks, instances a row, filling, labels and piece frequencies as PNG."""
    figure, axes = pyplot.subplots(2, 3, figsize=(13.5, 7.2), layout="constrained")
    panels = axes.flat
    for field, title, unit in (
        ("lengths", "length of an instance", "tokens, special ones included"),
        ("masks", "masks of an instance", "masked tokens"),
        ("instances", "instances in a row", "instances"),
    ):
        values = {split: getattr(sample, field) for split, sample in samples.items()}
        _draw_histogram(next(panels), values, title, unit)
    _draw_filling(next(panels), splits, length)
    _draw_labels(next(panels), splits, objective)
    _draw_frequencies(next(panels), token_counts, vocabulary)
    figure.suptitle("\n".join(_summary(split, found) for split, found in splits.items()))
    figure.savefig(path, dpi=120, format="png")
    pyplot.close(figure)


def _summary(split: str, found: SplitStatistics) -> str:
    return (
        f"{split}: {found.documents:,} documents, {found.sentences:,} sentences,"
        f" {found.words:,} words, {found.tokens:,} tokens of"
        f" {found.characters_per_token:.2f} characters, [UNK] {found.unknown_share:.2%}"
    )


def _draw_histogram(
    axis: Axes, values: Mapping[str, Int[np.ndarray, "_"]], title: str, unit: str
) -> None:
    """Shares of each split, side by side; every bar holds as many whole numbers."""
    largest = max(int(found.max()) for found in values.values())
    width = -(-(largest + 1) // BARS)
    edges = np.arange(0, largest + width + 1, width) - 0.5
    axis.hist(
        [*values.values()],
        bins=edges,
        weights=[np.full(len(found), 1 / len(found)) for found in values.values()],
        label=[f"{split}, mean {found.mean():.1f}" for split, found in values.items()],
    )
    axis.set(title=title, xlabel=unit, ylabel=f"share per {width}" if width > 1 else "share")
    axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)


def _draw_filling(axis: Axes, splits: Mapping[str, SplitStatistics], length: int) -> None:
    bars = {}
    for split, found in splits.items():
        for name, share in (
            ("as stored", found.filled_share),
            ("one instance a row", found.unpacked_filled_share),
        ):
            bars[f"{split},\n{name}"] = (share, 1 - share)
    _draw_shares(axis, bars, {"tokens": "C0", "padding": GREY})
    axis.set(title="what fills the rows", xlabel=f"share of {length} places a row")


def _draw_labels(axis: Axes, splits: Mapping[str, SplitStatistics], objective: str) -> None:
    bars = {}
    for split, found in splits.items():
        labelled = found.labelled / found.instances
        not_following = labelled * (found.not_following_share or 0)
        bars[split] = (labelled - not_following, not_following, 1 - labelled)
    colours = dict(zip(LABELS[objective].values(), ("C0", "C1", GREY), strict=True))
    _draw_shares(axis, bars, colours)
    axis.set(title="labels", xlabel="share of the instances")


def _draw_shares(
    axis: Axes, bars: Mapping[str, tuple[float, ...]], colours: Mapping[str, str]
) -> None:
    """Every bar is cut into parts that add up to 1, one for each of `colours`."""
    left = np.zeros(len(bars))
    for (name, colour), shares in zip(
        colours.items(), zip(*bars.values(), strict=True), strict=True
    ):
        drawn = axis.barh([*bars], shares, left=left, label=name, color=colour)
        axis.bar_label(drawn, [f"{x:.1%}" if x > 0.07 else "" for x in shares], label_type="center")
        left += shares
    axis.invert_yaxis()
    axis.set_xlim(0, 1)
    axis.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axis.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=len(colours))


def _draw_frequencies(
    axis: Axes, token_counts: Int[np.ndarray, "V"], vocabulary: VocabularyStatistics
) -> None:
    counts = np.sort(token_counts)[::-1]
    never = 0.5  # which a logarithmic axis can show
    axis.loglog(np.arange(1, len(counts) + 1), np.maximum(counts, never))
    for height, label in (
        (COMMON, f"{COMMON} times or more: {vocabulary.common_share:.1%}"),
        (never, f"never: {1 - vocabulary.occurring_share:.1%}"),
    ):
        axis.axhline(height, color="C1", linestyle="--" if height == COMMON else ":", label=label)
    axis.set(title="how often train holds a piece", xlabel="rank of the piece", ylabel="times")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
