"""The benchmark's two systems make the same fine-tuning: `pip install bert_jax[peers]`.

Without dropout, with all rows in one batch and with heads that begin as zeros, nothing is left
in which they may differ.
"""

import dataclasses
import json
import random

import jax
import numpy as np
import pytest

from bert_jax.fields import build
from bert_jax.finetune_config import FinetuneConfig
from bert_jax.tasks import conversion, finetune
from bert_jax.text.pieces import SPECIAL_PIECES
from bert_jax.training.logging import read_metrics
from bert_jax.training.sharding import make_mesh
from configs import finetune_sentiment
from tests.benchmarks import finetuning

torch = pytest.importorskip("torch", reason="PyTorch is an extra: pip install bert_jax[peers]")
transformers = pytest.importorskip("transformers", reason="an extra: pip install bert_jax[peers]")

TOLERANCE = dict(rtol=1e-5, atol=1e-5)
WORDS = [f"w{n}" for n in range(20)]
LABELS = {
    "classify": lambda n: "xyz"[n % 3],
    # No label is that of exactly half, where a bias has a gradient of 0 and Adam steps by noise.
    "multilabel": lambda n: [label for bit, label in enumerate("xyz") if n % 7 >> bit & 1],
    "regress": lambda n: n % 5 / 2,
    "tag": lambda n: "BO"[n % 2],
}
METRICS = {"classify": "loss", "multilabel": "loss", "regress": "mse", "tag": "accuracy"}


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """The workdir of a random model, from which no fresh head differs from another."""
    torch.manual_seed(0)
    directory = tmp_path_factory.mktemp("start")
    config = transformers.BertConfig(
        vocab_size=len(SPECIAL_PIECES) + len(WORDS), hidden_size=24, num_hidden_layers=2,
        num_attention_heads=4, intermediate_size=50, max_position_embeddings=32,
        initializer_range=0.0,
    )  # fmt: skip
    model = transformers.BertModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    model.save_pretrained(directory / "hf")
    (directory / "hf" / "vocab.txt").write_text("\n".join([*SPECIAL_PIECES, *WORDS]) + "\n")
    rest = dict.fromkeys(
        ("model_config", "tokenizer", "allow_missing", "allow_unknown", "add_words"), ""
    )
    conversion.run(
        conversion.Options(
            source=str(directory / "hf"),
            to=str(directory / "here"),
            format="bert_jax",
            positions=0,
            **rest,
        )
    )
    return directory / "here"


def write_rows(path, task):
    """Sixteen texts or pairs of texts, of several lengths."""
    rng = random.Random(0)

    def row(n):
        a, b = (rng.choices(WORDS, k=rng.randint(2, 9)) for _ in range(2))
        if task == "tag":
            return {"text": a, "label": [LABELS[task](int(word[1:])) for word in a]}
        return {"text": " ".join(a), "pair": " ".join(b), "label": LABELS[task](n)}

    rows = [row(n) for n in range(1, 17)]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return str(path)


def config_of(task, start, rows):
    """Eight steps, of which two warm up; a rate, a decay and a clipping that tell."""
    config = finetune_sentiment.get_config("tiny")
    config.data.update(train=rows, validation=rows, test=rows)
    config.data.pair_field = "" if task == "tag" else "pair"
    config.model.update(dropout=0.0, attention_dropout=0.0)
    config.optimizer.update(learning_rate=0.01, warmup_fraction=0.25)
    config.optimizer.update(weight_decay=0.5, clip_norm=0.1)
    config.update(task=task, init_from=str(start), batch_size=16, epochs=8, evals_per_epoch=1)
    config.update(metric=METRICS[task], patience=0)
    found = build(FinetuneConfig, config)
    finetuning.check_shared(found)
    return found


def validations(points):
    timing = ("step", "split")
    return [
        {name: value for name, value in point.items() if name not in timing}
        for point in points
        if point["split"] == "validation"
    ]


@pytest.mark.parametrize("task", LABELS)
def test_both_systems_validate_the_same(task, start, tmp_path, monkeypatch, capsys):
    from tests.benchmarks.finetuned import theirs

    assert tuple(theirs.PEERS) == finetuning.TASKS
    monkeypatch.setattr(finetune, "make_mesh", lambda config: make_mesh(config, jax.devices()[:1]))
    config = config_of(task, start, write_rows(tmp_path / "rows.jsonl", task))
    finetune.run(dataclasses.asdict(config), tmp_path / "ours")
    exported, _ = finetuning.export(str(start), tmp_path / "hf")
    capsys.readouterr()
    tuning = theirs.Tuning(config, exported, group_by_length=False)
    result = tuning.go()
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    wanted, found = validations(read_metrics(tmp_path / "ours")), validations(printed)
    assert len(wanted) == len(found) == 8
    for ours, other in zip(wanted, found, strict=True):
        np.testing.assert_allclose(
            [other[name] for name in ours], list(ours.values()), err_msg=str(ours), **TOLERANCE
        )
    # It has learnt: the steps were steps.
    first, last = (wanted[place][config.metric] for place in (0, -1))
    assert last > first if task == "tag" else last < 0.9 * first
    assert result.steps == 8
    assert result.test == pytest.approx(result.validation)
    for module in tuning.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    assert tuning.score("test") == result.test  # which nothing drops out of
