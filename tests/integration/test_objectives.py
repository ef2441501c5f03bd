"""Every objective and form of row, from text to the first steps of training."""

import json
import math
import re

import numpy as np
import pytest
from integration import corpus
from integration.test_prepare import rows_of

from bert_jax.data import prepare
from bert_jax.tasks import plots, pretrain
from bert_jax.text import tokenizer as tokenizers
from bert_jax.training.logging import read_metrics


def config_of(documents_path, objective, **changed):
    config = corpus.prepare_config(documents_path)
    config.instances.update(objective=objective, short_probability=0.5, **changed)
    config.tokenizer.chinese_words = False
    return config


@pytest.mark.parametrize(
    ("objective", "packing", "words"),
    [
        ("mlm", True, "pieces"),
        ("mlm", False, "jieba"),
        ("mlm+sop", True, "jieba"),
        ("mlm+nsp", False, "pieces"),
    ],
)
def test_the_manifest_counts_what_is_there(objective, packing, words, documents_path, tmp_path):
    config, data = config_of(documents_path, objective, packing=packing, words=words), tmp_path
    assert prepare.run(config, data) == json.loads((data / "manifest.json").read_text("utf-8"))
    manifest = prepare.run(config, data)
    assert manifest["objective"] == objective
    tokenizer = tokenizers.load(data / "tokenizer")
    for split, totals in manifest["splits"].items():
        rows = rows_of(data, split)
        labels = np.concatenate([row["next_labels"] for row in rows])
        lengths = np.concatenate([row["lengths"] for row in rows])
        a_lengths = np.concatenate([row["a_lengths"] for row in rows])
        ids = np.concatenate([row["ids"] for row in rows])
        starts = np.concatenate([row["is_word_start"] for row in rows])
        assert totals["rows"] == len(rows)
        assert totals["instances"] == len(labels)
        assert totals["labelled"] == (labels >= 0).sum()
        assert totals["not_following"] == (labels == 1).sum()
        assert ((labels < 0) == (lengths == a_lengths)).all()
        assert packing or len(rows) == len(labels)
        special = np.isin(ids, (tokenizer.special.cls, tokenizer.special.sep))
        if objective == "mlm":
            assert totals["labelled"] == 0
            assert totals["tokens"] == (~special).sum()  # each exactly once
            assert totals["words"] == starts[~special].sum()
        else:
            assert 0 < totals["not_following"] < totals["labelled"]
        # Of single Chinese characters most go on a word, of pieces only those of numbers.
        assert (totals["words"] < 0.8 * totals["tokens"]) == (words == "jieba")
        assert totals["most_instances"] == max(len(row["lengths"]) for row in rows)
    assert (manifest["max_instances"] == 1) == (not packing)


@pytest.mark.parametrize(
    ("objective", "unit"), [("mlm", "span"), ("mlm+sop", "word"), ("mlm+nsp", "token")]
)
def test_every_objective_is_trained_on(objective, unit, documents_path, tmp_path, capsys, caplog):
    # Rows of one instance each: of one shape, and compiled once.
    config = config_of(documents_path, objective, packing=False)
    manifest = prepare.run(config, tmp_path / "data")
    training = corpus.pretrain_config(tmp_path / "data")
    training.update(steps=2, log_every=1, eval_every=2, save_every=2)
    training.masking.unit = unit
    training.model.layers = 1
    pretrain.run(training, tmp_path / "run")
    points, has_pairs = read_metrics(tmp_path / "run"), objective != "mlm"
    for point in points:
        assert 0 < point["mlm_loss"] < 2 * math.log(manifest["vocab_size"])
        assert (point["next_loss"] is not None) == has_pairs  # of nothing there is no mean
        assert point["split"] == "heldout" or point["gradient_norm"] > 0
    # What nothing counted for is neither shown nor drawn.
    shown = re.findall(r"([a-z/]+)=", capsys.readouterr().err)
    assert set(shown) == {"loss", "masked", "tok/s"} | ({"nsp"} if has_pairs else set())
    assert "NaN" not in caplog.text
    pairs = {"next_loss", "next_accuracy"} if has_pairs else set()
    drawn = {line for lines in plots.panels(points).values() for line in lines}
    wanted = {
        "train": {"loss", "mlm_loss", "mlm_accuracy", "learning_rate"},
        "heldout": {"mlm_loss", "mlm_accuracy", "unigram_loss"},
    }
    assert drawn == {f"{split} {name}" for split in wanted for name in wanted[split] | pairs}
