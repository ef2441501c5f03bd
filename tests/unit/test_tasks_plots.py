"""Which lines the curves of a run have."""

import json

import pytest

from bert_jax.errors import InputError
from bert_jax.tasks.plots import draw_curves, panels


def test_a_line_for_each_split_and_metric_that_was_logged():
    points = [
        {"step": 5, "split": "train", "mlm_loss": 3.0, "next_loss": None, "gradient_norm": 1.0},
        {"step": 5, "split": "heldout", "mlm_loss": 4.0, "accuracy": 0.5},
        {"step": 10, "split": "train", "mlm_loss": 2.0, "next_loss": 0.5},
    ]
    assert panels(points) == {
        "masked-token loss (nats)": {
            "train mlm_loss": ([5, 10], [3.0, 2.0]),
            "heldout mlm_loss": ([5], [4.0]),
        },
        "loss (nats)": {"train next_loss": ([10], [0.5])},
        "accuracy": {"heldout accuracy": ([5], [0.5])},
    }
    assert panels([{"step": 1, "split": "train", "gradient_norm": 1.0}]) == {}


def test_where_nothing_can_be_written_one_sentence_says_so(tmp_path):
    point = {"step": 1, "split": "train", "loss": 1.0}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(point) + "\n")
    (tmp_path / "curves.png").mkdir()
    with pytest.raises(InputError, match=r"--workdir=.* cannot be written"):
        draw_curves(tmp_path)
