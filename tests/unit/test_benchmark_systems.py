"""What the benchmarks hand to other systems is the batch that ours is given."""

import numpy as np

from bert_jax.arrays import PretrainBatch, Tokens
from tests.benchmarks.systems import IGNORED, one_a_row


def test_instances_of_a_packed_row_one_a_row():
    """Two instances and padding in the first row, one in the second; slots of weight 0 unused."""
    batch = PretrainBatch(
        tokens=Tokens(
            ids=np.array([[10, 11, 12, 20, 21, 9], [30, 31, 32, 33, 34, 35]]),
            segments=np.array([[0, 0, 1, 0, 1, 0], [0, 0, 0, 0, 1, 1]]),
            positions=np.array([[0, 1, 2, 0, 1, 0], [0, 1, 2, 3, 4, 5]]),
            instances=np.array([[1, 1, 1, 2, 2, 0], [1, 1, 1, 1, 1, 1]]),
        ),
        mask_positions=np.array([[1, 4, 0], [5, 0, 0]]),
        mask_labels=np.array([[70, 71, 0], [72, 0, 0]]),
        mask_weights=np.array([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]]),
        cls_positions=np.array([[0, 3], [0, 0]]),
        next_labels=np.array([[1, 0], [1, 0]]),
        next_weights=np.array([[1.0, 1.0], [1.0, 0.0]]),
    )
    found = one_a_row(batch)
    assert found.input_ids.shape == (3, 8)
    real = [row[mask == 1].tolist() for row, mask in zip(*found[:2], strict=True)]
    assert real == [[10, 11, 12], [20, 21], [30, 31, 32, 33, 34, 35]]
    assert found.token_type_ids[:, :6].tolist() == [
        [0, 0, 1, 0, 0, 0],
        [0, 1, 0, 0, 0, 0],
        [0, 0, 0, 0, 1, 1],
    ]
    assert [*zip(*np.nonzero(found.labels != IGNORED), strict=True)] == [(0, 1), (1, 1), (2, 5)]
    assert found.labels[found.labels != IGNORED].tolist() == [70, 71, 72]
    assert found.next_sentence_label.tolist() == [1, 0, 1]
