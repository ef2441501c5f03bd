"""Curves of a run, drawn from its metrics.jsonl."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

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


def draw_curves(workdir: Path) -> Path | None:
    """Draws every metric of PANELS that was logged against the step, into curves.png."""
    points = read_metrics(workdir)
    panels = {title: _lines(points, names) for title, names in PANELS.items()}
    panels = {title: lines for title, lines in panels.items() if lines}
    if not panels:
        return None
    figure, axes = pyplot.subplots(
        1, len(panels), figsize=(4.5 * len(panels), 3.6), squeeze=False, layout="constrained"
    )
    for axis, (title, lines) in zip(axes[0], panels.items(), strict=True):
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
    figure.savefig(workdir / CURVES, dpi=120)
    pyplot.close(figure)
    return workdir / CURVES


def _lines(
    points: list[dict[str, Any]], names: tuple[str, ...]
) -> dict[str, tuple[list[int], list[float]]]:
    lines: dict[str, tuple[list[int], list[float]]] = {}
    for point in points:
        for name in names:
            if point.get(name) is not None:
                steps, values = lines.setdefault(f"{point['split']} {name}", ([], []))
                steps.append(point["step"])
                values.append(point[name])
    return lines
