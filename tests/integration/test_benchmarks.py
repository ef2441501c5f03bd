"""The benchmarks that compare, run from end to end at the smallest size there is."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import corpus
import numpy as np
import pytest

from bert_jax.config import PretrainConfig
from bert_jax.data import buckets, dataset
from bert_jax.errors import InputError
from bert_jax.fields import build
from bert_jax.tasks import evaluate
from configs import pretrain_base
from tests.benchmarks import accelerator
from tests.benchmarks.finetuned import ours
from tests.benchmarks.quality.heldout import BLOCKS, ROWS, Evaluator, heldout_batches
from tests.benchmarks.quality.text import read_blocks

ROOT = Path(__file__).parents[2]


def run_benchmark(name, *flags):
    """`python -m tests.benchmarks.NAME FLAGS`, which must go well."""
    command = [sys.executable, "-m", f"tests.benchmarks.{name}", *map(str, flags)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def peers():
    """PyTorch and transformers, which are not needed otherwise."""
    pytest.importorskip("torch", reason="PyTorch is an extra: pip install bert_jax[peers]")
    pytest.importorskip("transformers", reason="an extra: pip install bert_jax[peers]")


def test_blocks_hold_every_document_of_their_split_once(data):
    manifest = dataset.read_manifest(data)
    tokenizer = dataset.load_tokenizer(data, manifest)
    found = read_blocks(data)
    for split, blocks in found.items():
        counts = manifest["splits"][split]
        assert len(blocks) == (counts["tokens"] + 2 * counts["documents"]) // 32
        # A document cut off at the end, at most.
        assert counts["documents"] - (blocks == tokenizer.special.cls).sum() in (0, 1)
    pieces = np.bincount(found["train"].ravel(), minlength=tokenizer.vocab_size)
    told = dataset.read_token_counts(data)
    assert 0 <= (told - pieces)[5:].sum() < 32


def test_a_source_that_has_changed_is_refused(data, monkeypatch):
    described = dataset.read_manifest(data)["sources"]
    described[0]["files"] = []
    monkeypatch.setattr(buckets, "describe", lambda config: described)
    with pytest.raises(InputError, match="prepare it again"):
        read_blocks(data)


@pytest.mark.slow
def test_the_loss_on_packed_rows_is_that_of_evaluate(pretrained, data, tmp_path):
    workdir = shutil.copytree(pretrained, tmp_path / "run")
    told = evaluate.run(pretrain_base.get_config("tiny"), workdir)
    config = json.loads((workdir / "config.json").read_text())
    blocks = read_blocks(data)[dataset.HELDOUT]
    found = Evaluator(heldout_batches(build(PretrainConfig, config), blocks))(workdir)
    assert found[ROWS] == pytest.approx(told["mlm_loss"], rel=1e-5)
    assert found[BLOCKS] == pytest.approx(told["mlm_loss"], rel=0.2)


@pytest.mark.slow
def test_a_seed_of_ours_has_its_metrics_and_seconds(pretrained, reviews_path):
    config = corpus.finetune_config(reviews_path, pretrained)
    config.epochs = 1
    result = ours.run(config)
    assert result.steps > 0
    assert min(result.seconds) > 0
    assert {"accuracy", "loss"} <= set(result.test)


@pytest.mark.slow
def test_seeds_in_turn_and_as_one_program(pretrained, reviews_path):
    text = run_benchmark(
        *("seeds", "--config=configs/finetune_sentiment.py:tiny", "--seeds=2", "--steps=2"),
        *("--passes=1", f"--config.init_from={pretrained}", f"--config.data.train={reviews_path}"),
    )
    ratio = re.search(r"as one program / one after the other: ([\d.]+)$", text)
    assert float(ratio[1]) > 0


def test_without_an_accelerator_it_says_so(monkeypatch, capsys):
    def run_case(side, work):
        raise accelerator.NoDevice

    monkeypatch.setattr(sys, "argv", ["accelerator", "--peers=none"])
    monkeypatch.setattr(accelerator, "run_case", run_case)
    with pytest.raises(SystemExit) as ended:
        accelerator.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.count(".\n") == 1


@pytest.mark.slow
def test_the_accelerator_benchmark_on_a_cpu():
    flags = ("--device=cpu", "--peers=none", "--sizes=base", "--lengths=16", "--json")
    rows = json.loads(run_benchmark("accelerator", *flags))
    assert [row["attention_dropout"] for row in rows] == [0.1, 0]
    assert all(row["sequences_per_second"] > 0 and row["planned_bytes"] > 0 for row in rows)
    assert all(row["mfu"] is None and row["ratio"] is None for row in rows)


@pytest.mark.slow
@pytest.mark.usefixtures("peers")
def test_the_accelerator_benchmark_beside_peers():
    flags = ("--device=cpu", "--sizes=base", "--lengths=16", "--json")
    rows = json.loads(run_benchmark("accelerator", *flags))
    assert all(row["ratio"] > 0 for row in rows)


def step_flags(*peers):
    """A step of few tokens of the smallest model in configs/."""
    flags = ("--config=pretrain_quickstart", "--tokens=128", "--warmup=1", "--steps=1")
    return (*flags, f"--peers={','.join(peers)}")


def ratios(text):
    """{peer: ours / theirs} of a table."""
    cells = [line.split() for line in text.splitlines() if line.startswith("  ")]
    return {name: float(ratio) for name, _, _, ratio in cells}


@pytest.mark.slow
def test_a_step_of_random_and_of_real_rows(data):
    flags = step_flags("bert_jax_unsettled")
    random = run_benchmark("step", *flags, "--lengths=32,64")
    assert random.count("rows of ") == 2
    for text in (random, run_benchmark("step", *flags, f"--data={data}")):
        assert ratios(text)["bert_jax_unsettled"] > 0


@pytest.mark.slow
@pytest.mark.usefixtures("peers")
def test_a_step_beside_peers(data):
    names = ("torch", "torch_masked_only", "flax")
    found = ratios(run_benchmark("step", *step_flags(*names), f"--data={data}"))
    assert tuple(found) == names
    assert min(found.values()) > 0


@pytest.mark.slow
def test_time_to_quality_of_ours_alone(data, tmp_path):
    flags = (f"--data={data}", f"--workdir={tmp_path}", "--minutes=0.1", "--only=ours")
    first = run_benchmark("time_to_quality", *flags, "--without=packing")
    assert "| ours_0.05min |" in first
    assert "| ours_without_packing_0.05min |" in first
    again = run_benchmark("time_to_quality", *flags)
    assert first.splitlines()[-2] == again.splitlines()[-1]  # not run once more


@pytest.mark.slow
@pytest.mark.usefixtures("peers")
def test_time_to_quality_beside_peers(data, tmp_path):
    text = run_benchmark(
        *("time_to_quality", f"--data={data}", f"--workdir={tmp_path}", "--minutes=0.05"),
        *("--theirs_learning_rate=1e-3", "--theirs_batch_size=8", "--theirs_model=published"),
    )
    assert "theirs_0.001_8_published_0.05min has" in text
    assert "ours_0.025min" in text
