"""What time_to_quality.py compares with: the same rows for both, and training time alone."""

import argparse
import json

import foreign
import numpy as np
import pytest
from safetensors.numpy import save_file

from bert_jax.text.pieces import SpecialIds
from bert_jax.training.clock import COMPILING, EVALUATING, SAVING, STEPPING, WAITING, Clock
from tests.benchmarks import time_to_quality
from tests.benchmarks.quality import report
from tests.benchmarks.quality.curve import Curve, Point, read, tokens_at, training_seconds
from tests.benchmarks.quality.heldout import BLOCKS, ROWS, Evaluator, from_hugging_face
from tests.benchmarks.quality.text import cut, mask_blocks
from tests.benchmarks.quality.their_runs import DEFAULTS, Variant

SPECIAL = SpecialIds(pad=0, unk=1, cls=2, sep=3, mask=4)


def some_blocks(count=40, length=64, vocab_size=50):
    blocks = np.random.default_rng(1).integers(5, vocab_size, (count, length), np.int32)
    blocks[:, 10:12] = SPECIAL.sep, SPECIAL.cls
    return blocks


def masked(blocks, **changes):
    return mask_blocks(blocks, SPECIAL, **dict(vocab_size=50, batch_size=16, seed=0) | changes)


def test_documents_lie_end_to_end_and_what_fills_no_block_is_dropped():
    blocks = cut([[7, 8], [9], [10, 11]], 4, SPECIAL)
    assert blocks.tolist() == [[2, 7, 8, 3], [2, 9, 3, 2]]


def test_masks_of_blocks():
    blocks = some_blocks()
    batches = masked(blocks)
    assert [len(batch.mask_labels) for batch in batches] == [16, 16, 16]
    ids, positions, labels, weights = (
        np.concatenate(part)[:40]
        for part in zip(
            *((b.tokens.ids, b.mask_positions, b.mask_labels, b.mask_weights) for b in batches),
            strict=True,
        )
    )
    assert (weights.sum(1) == round(0.15 * 62)).all()
    assert batches[-1].mask_weights[8:].sum() == 0  # rows that fill the last batch
    is_masked = np.zeros(blocks.shape, bool)
    for row, (places, weight) in enumerate(zip(positions, weights, strict=True)):
        is_masked[row, places[weight > 0]] = True
    assert is_masked.sum() == weights.sum()  # no place twice
    assert not is_masked[:, 10:12].any()
    assert (ids == blocks)[~is_masked].all()
    assert (np.take_along_axis(blocks, positions, 1) == labels)[weights > 0].all()
    share = (ids == SPECIAL.mask)[is_masked].mean()
    assert abs(share - 0.8) < 4 * np.sqrt(0.8 * 0.2 / is_masked.sum())


def test_masks_are_those_of_the_seed():
    blocks = some_blocks()
    one, again, other = masked(blocks), masked(blocks), masked(blocks, seed=1)
    assert (one[0].mask_positions == again[0].mask_positions).all()
    assert (one[0].mask_positions != other[0].mask_positions).any()


def test_a_model_of_theirs_has_the_loss_that_it_has_there(tmp_path):
    tensors = foreign.tensors("mlm")
    theirs = foreign.write_description(tmp_path / "theirs", "BertForMaskedLM")
    save_file(tensors, theirs / "model.safetensors")
    special = SpecialIds(*map(foreign.PIECES.index, foreign.SPECIAL))
    blocks = np.random.default_rng(0).integers(5, len(foreign.PIECES), (5, 16), np.int32)
    batches = mask_blocks(blocks, special, vocab_size=19, batch_size=2, seed=0)
    costs = []
    for batch in batches:
        for row in range(len(batch.mask_labels)):
            logits = foreign.mlm_logits(tensors, foreign.hidden(tensors, batch.tokens.ids[row]))
            logits -= np.log(np.exp(logits).sum(1, keepdims=True))
            places = batch.mask_positions[row][batch.mask_weights[row] > 0]
            labels = batch.mask_labels[row][batch.mask_weights[row] > 0]
            costs += (-logits[places, labels]).tolist()
    here = from_hugging_face(theirs, tmp_path / "here", theirs)
    found = Evaluator({BLOCKS: batches})(here)
    assert found == {BLOCKS: pytest.approx(np.mean(costs), rel=1e-5)}


def test_evaluating_and_saving_are_no_training_time():
    now = [100.0]
    clock = Clock(100.0, now=lambda: now[0])
    with clock.spend(STEPPING):
        for activity, seconds in (
            (COMPILING, 3), (WAITING, 1), (EVALUATING, 50), (SAVING, 7), (STEPPING, 20)
        ):  # fmt: skip
            with clock.spend(activity):
                now[0] += seconds
        now[0] += 2
    assert training_seconds(clock.spent()) == 3 + 1 + 20 + 2


def test_tokens_of_a_step_between_two_logged_ones():
    assert tokens_at([0, 5, 10, 15, 20], [(10, 100.0), (20, 50.0)]) == [0, 500, 1000, 1250, 1500]


def curve(name, *losses, **made_with):
    points = [
        Point(60.0 * n, 100 * n, 1000 * n, {BLOCKS: loss, ROWS: loss + 1})
        for n, loss in enumerate(losses, 1)
    ]
    return Curve(name, made_with, points)


def test_the_first_point_as_good_counts_and_nan_never_does():
    found = curve("ours", float("nan"), 7.0, 6.0, 5.0, 5.5)
    assert found.lowest(BLOCKS) == 5.0
    assert found.reached(BLOCKS, 6.0).step == 300
    assert found.reached(ROWS, 6.0).step == 400
    assert found.reached(BLOCKS, 4.9) is None
    assert curve("ours", float("nan")).lowest(BLOCKS) == float("inf")


def test_a_curve_is_read_as_it_was_saved(tmp_path):
    wanted = curve(tmp_path.name, 7.0, 6.0, minutes=2.0)
    assert read(tmp_path) is None
    wanted.save(tmp_path)
    assert read(tmp_path) == wanted


def test_the_target_is_the_best_that_theirs_has_on_the_same_rows():
    theirs = [curve("weak", 9.0, 8.0), curve("strong", 7.0, 6.0)]
    text = report.comparison(theirs, [curve("ours", 6.5, 5.9), curve("late", 6.4)], 20)
    on_blocks, on_rows = text.strip().split("\n\n")
    assert "strong has 6.000 nats after 20 minutes" in on_blocks
    assert "ours: 5.900 after 2.0 minutes, 0.10 of the time, 200 updates" in on_blocks
    assert "late: not reached; 6.400 at best in 1.0 minutes" in on_blocks
    assert "strong has 7.000 nats" in on_rows


class Runs:
    """Stands in for the runs: a variant is as good as its rate is high."""

    def __init__(self):
        self.asked = []

    def run(self, variant, minutes):
        self.asked.append((variant.learning_rate, minutes))
        made_with = json.loads(json.dumps(vars(variant)))
        return curve(variant.name, 1 / variant.learning_rate, **made_with)


def test_the_best_of_a_short_search_and_the_defaults_get_all_the_time():
    arguments = time_to_quality.parse(
        ["--data=x", "--theirs_learning_rate=1e-3,5e-5,2e-3", "--theirs_batch_size=8",
         "--theirs_model=published", "--minutes=20", "--search_minutes=1", "--finalists=1"]
    )  # fmt: skip
    runs = Runs()
    found = time_to_quality._theirs(arguments, runs)
    assert runs.asked == [(1e-3, 1), (5e-5, 1), (2e-3, 1), (2e-3, 20), (5e-5, 20)]
    assert [Variant.of(each).learning_rate for each in found] == [2e-3, 5e-5]
    assert Variant.of(found[1]) == DEFAULTS


def test_an_unknown_ablation_is_refused():
    read_names = time_to_quality._several(("packing", "batch"))
    assert read_names("packing,packing+batch") == ("packing", "packing+batch")
    for bad in ("pakcing", "packing+pakcing", ""):
        with pytest.raises(argparse.ArgumentTypeError, match="packing, batch"):
            read_names(bad)
