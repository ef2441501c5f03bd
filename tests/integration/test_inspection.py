"""A prepared dataset looked at: its numbers from its rows, and refusal of what is damaged."""

import re
import shutil

import numpy as np
import pytest
from integration import corpus

from bert_jax.data import dataset, prepare
from bert_jax.errors import InputError
from bert_jax.tasks import inspection

SHARD = "pretraining_rows-train.array_record-00001-of-00002"


@pytest.fixture
def copied(data, tmp_path):
    return shutil.copytree(data, tmp_path / "data")


@pytest.mark.parametrize("unit", inspection.UNITS)
def test_the_numbers_are_those_of_the_rows(unit, data, tmp_path, capsys):
    found = inspection.run(data, count=2, unit=unit, plot=tmp_path / "plot.png")
    rows = dataset.RowSource(data, "train")
    lengths = [row.lengths.tolist() for row in map(rows.__getitem__, range(len(rows)))]
    train = found["splits"]["train"]
    assert train["rows"] == train["sampled_rows"] == len(rows)
    assert train["instance_length"] == pytest.approx(np.mean(np.concatenate(lengths)))
    assert train["instances_per_row"] == pytest.approx(np.mean([*map(len, lengths)]))
    assert train["filled_share"] == pytest.approx(np.mean([*map(sum, lengths)]) / 32)
    # At least one and at most five masks in each; fifteen in a hundred tokens.
    assert 1 < train["masks_per_instance"] < 0.16 * train["instance_length"]
    # Every id that stands in a row occurs in a document; [CLS] and [SEP] are no pieces.
    ids = set(np.concatenate([row.ids for row in map(rows.__getitem__, range(len(rows)))]).tolist())
    pieces = found["vocabulary"]["pieces"]
    assert len(ids) - 2 <= found["vocabulary"]["occurring_share"] * pieces < pieces
    printed = capsys.readouterr().out
    assert printed.count("\nrow ") == 2
    assert all(f"\nwarning: {warning}\n" in printed for warning in found["warnings"])
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_the_seed_says_which_rows_and_masks(data, tmp_path, capsys):
    def printed(**flags):
        inspection.run(data, plot=tmp_path / "plot.png", **flags)
        return capsys.readouterr().out

    def numbers(text):
        return re.findall(r"^row (\d+) of", text, re.MULTILINE)

    first = printed()
    assert printed() == first
    assert numbers(printed(seed=1)) != numbers(first)
    assert numbers(printed(count=5))[:3] == numbers(first)


def test_words_are_masked_whole(data, tmp_path, capsys):
    inspection.run(data, count=30, unit="word", plot=tmp_path / "plot.png")
    words = re.findall("‹(.+?)›", capsys.readouterr().out.partition("\nrow ")[2])
    masked = [word for word in words if "{" in word]
    assert len(masked) > 3
    assert all(re.fullmatch(r"\{[^{}]+\}", word) for word in masked)


@pytest.mark.parametrize("objective", ["mlm", "mlm+sop"])
def test_every_objective(objective, documents_path, tmp_path, capsys):
    config = corpus.prepare_config(documents_path)
    config.heldout_fraction = 0.0
    config.instances.objective = objective
    prepare.run(config, tmp_path)
    found = inspection.run(tmp_path)
    share = found["splits"]["train"]["not_following_share"]
    assert share is None if objective == "mlm" else 0.3 < share < 0.7
    assert found["plot"] == tmp_path / "inspect.png"
    assert found["plot"].is_file()


def change_a_byte(directory):
    content = bytearray((directory / SHARD).read_bytes())
    content[len(content) // 2] ^= 1
    (directory / SHARD).write_bytes(content)


def take_the_counts_away(directory):
    (directory / "token_counts.npy").unlink()


def change_the_vocabulary(directory):
    path = directory / "tokenizer" / "vocab.txt"
    path.write_text(path.read_text("utf-8") + "¤\n", "utf-8")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (change_a_byte, rf"{SHARD} is damaged \(its sha256"),
        (lambda directory: (directory / SHARD).unlink(), f"{SHARD} is missing"),
        (take_the_counts_away, r"token_counts\.npy cannot be read"),
        (change_the_vocabulary, "tokenizer is not the vocabulary"),
    ],
)
def test_a_damaged_dataset_is_refused(damage, message, copied):
    damage(copied)
    with pytest.raises(InputError, match=message):
        inspection.run(copied)
    assert not (copied / "inspect.png").exists()
