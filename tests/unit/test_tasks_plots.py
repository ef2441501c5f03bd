"""Which lines the curves of a run have."""

from bert_jax.tasks.plots import panels


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
