"""Curves of a run, drawn from its metrics.jsonl."""

import io
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

from bert_jax import workdir as wd
from bert_jax.training.logging import read_metrics

CURVES = "curves.png"
# One panel each, where a run has them; the unit of a loss is nats.
PANELS = {
    "masked-token loss (nats)": ("mlm_loss", "unigram_loss"),
    "loss (nats)": ("loss", "next_loss"),
    "accuracy": ("mlm_accuracy", "next_accuracy", "accuracy", "macro_f1", "micro_f1", "f1"),
    "correlation": ("matthews", "pearson", "spearman"),
    "learning rate": ("learning_rate",),
}

Line = tuple[list[int], list[float]]  # steps and values


def draw_curves(workdir: Path) -> Path | None:
    """Draws every metric of PANELS that was logged against the step, into curves.png.

    Raises InputError where that cannot be written.
    """
    found = panels(read_metrics(workdir))
    if not found:
        return None
    figure, axes = pyplot.subplots(
        1, len(found), figsize=(4.5 * len(found), 3.6), squeeze=False, layout="constrained"
    )
    for axis, (title, lines) in zip(axes[0], found.items(), strict=True):
        for label, (steps, values) in lines.items():
            is_train = label.startswith("train")
            axis.plot(
                steps,
                values,
                label=label,
                linewidth=1 if is_train else 1.8,
                alpha=0.6 if is_train else 1,
                marker="" if len(steps) > 30 or is_train else "o",
                markersize=3,
            )
        axis.set(title=title, xlabel="step")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=120, format="png")
    pyplot.close(figure)
    with wd.writing(workdir):
        wd.write_bytes(workdir / CURVES, drawn.getvalue())
    return workdir / CURVES


def panels(points: list[dict[str, Any]]) -> dict[str, dict[str, Line]]:
    """Those of PANELS that have lines, which are named by split and metric."""
    found = {title: _lines(points, names) for title, names in PANELS.items()}
    return {title: lines for title, lines in found.items() if lines}


def _lines(points: list[dict[str, Any]], names: tuple[str, ...]) -> dict[str, Line]:
    lines: dict[str, Line] = {}
    for point in points:
        for name in names:
            if point.get(name) is not None:
                steps, values = lines.setdefault(f"{point['split']} {name}", ([], []))
                steps.append(point["step"])
                values.append(point[name])
    return lines
