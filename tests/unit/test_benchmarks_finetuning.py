"""The comparison of fine-tunings: which rows, what is reused, what is said of two systems."""

import json
import random

import pytest

from bert_jax.errors import InputError
from bert_jax.fields import build
from bert_jax.finetune_config import FinetuneConfig
from bert_jax.tasks import all_tasks
from bert_jax.tasks.splits import TEST, TRAIN, VALIDATION, read_splits
from bert_jax.text.labelled import LabelledText
from bert_jax.workdir import write_json
from tests.benchmarks import finetuning, real_tasks
from tests.benchmarks.finetuned import rows
from tests.benchmarks.finetuned.report import Result, Seconds, report, verdict, welch


def texts(count):
    return [LabelledText(f"text {n}", "", "xy"[n % 2], f"a:{n}") for n in range(count)]


def test_rows_are_cut_by_hash():
    found = rows.cut(texts(100), 20)
    # The first by sha256 of ["text N", "", LABEL, ""].
    assert [row.text for row in found[:3]] == ["text 52", "text 95", "text 40"]
    elsewhere = [row._replace(where="b:1") for row in texts(100)]
    random.Random(0).shuffle(elsewhere)
    assert [row[:3] for row in rows.cut(elsewhere, 20)] == [row[:3] for row in found]
    assert rows.cut(texts(100), 50)[:20] == found
    assert rows.cut(texts(3), 0) == texts(3)
    assert {row.text for row in rows.cut(texts(3), 9)} == {row.text for row in texts(3)}


def config_of(**changes):
    values = real_tasks.get_config("bbc_topics").to_dict()
    values.pop("benchmark")
    values["init_from"] = "somewhere"
    return build(FinetuneConfig, values | changes)


def test_the_files_hold_the_rows_of_each_split(tmp_path):
    path = tmp_path / "a.jsonl"
    pairs = [
        {"a": f"text {n}", "b": f"and {n}\nmore", "y": "xy"[n % 2], "i": n} for n in range(200)
    ]
    path.write_text("\n".join(map(json.dumps, pairs)))
    fields = dict(train=str(path), text_field="a", pair_field="b", label_field="y", id_field="i")
    config = config_of(data=real_tasks.get_config("imdb").data.to_dict() | fields)
    kind = all_tasks.named(config.task)
    before = read_splits(kind, config.data, is_tested=True)
    found, said = rows.write(config, {TRAIN: 5, VALIDATION: 0}, tmp_path / "rows")
    after = read_splits(kind, found.data, is_tested=True)
    assert {split: [row[:3] for row in after[split]] for split in after} == {
        TRAIN: [row[:3] for row in rows.cut(before[TRAIN], 5)],
        **{split: [row[:3] for row in before[split]] for split in (VALIDATION, TEST)},
    }
    assert said[TRAIN] == f"5 of {len(before[TRAIN])} by hash"
    assert said[TEST] == f"{len(before[TEST])}"
    digest = rows.digest(found)
    (tmp_path / "rows" / "test.jsonl").write_text("")
    assert rows.digest(found) != digest


def test_the_files_hold_tagged_words(tmp_path):
    (tmp_path / "a.conll").write_text("".join(f"w{n} x\nB O\n\n" for n in range(100)))
    (tmp_path / "b.conll").write_text("u O\n")
    files = {split: str(tmp_path / "b.conll") for split in (VALIDATION, TEST)}
    values = real_tasks.get_config("msra_ner")
    data = values.data.to_dict() | files | {"train": str(tmp_path / "a.conll")}
    config = config_of(task="tag", metric="f1", data=data)
    found, _ = rows.write(config, {TRAIN: 5}, tmp_path / "rows")
    kind = all_tasks.named("tag")
    (first, *others) = read_splits(kind, found.data, is_tested=True)[TRAIN]
    assert len(others) == 4
    assert (first.words[1], first.tags) == ("B", ("x", "O"))


def test_each_task_is_comparable():
    for name in real_tasks.TASKS:
        values = real_tasks.get_config(name)
        assert set(values.benchmark) == set(rows.SPLITS)
        del values.benchmark
        values.init_from = "somewhere"
        finetuning.check_shared(build(FinetuneConfig, values))


def test_what_the_other_has_not_is_refused():
    with pytest.raises(InputError, match=r"config\.layer_decay=0\.9 has no counterpart .* 1\.0"):
        finetuning.check_shared(config_of(layer_decay=0.9))


def result(accuracy=0.5, training=8.0, compiling=2.0, steps=20):
    metrics = {"accuracy": accuracy}
    return Result(metrics, metrics, steps, Seconds(training, compiling, 1.0))


def test_a_result_is_kept_while_its_settings_are():
    assert Result.of(json.loads(json.dumps(result().json()))) == result()


def test_a_result_of_other_settings_is_not_taken(tmp_path):
    path = tmp_path / "a.json"
    assert finetuning.kept(path, {"rows": 1}) is None
    write_json(path, {"settings": {"rows": 1}, "result": result().json()})
    assert finetuning.kept(path, {"rows": 1}) == result()
    assert finetuning.kept(path, {"rows": 2}) is None


def test_a_seed_with_a_result_is_not_run_again(tmp_path, monkeypatch):
    runs = []

    def run(command, **_):
        runs.append(command)
        write_json(tmp_path / "seed.result", result(accuracy=len(runs)).json())
        return finetuning.subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(finetuning.subprocess, "run", run)
    path = tmp_path / "seed.json"
    found = [
        finetuning.run_seed("ours", {"rows": rows, "pair": (1, 2)}, path) for rows in (1, 1, 2, 1)
    ]
    assert [one.test["accuracy"] for one in found] == [1, 1, 2, 3]
    assert runs[0][1:3] == ["-m", "tests.benchmarks.finetuned.ours"]
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["seed.json", "seed.log"]


def test_a_run_that_fails_is_named_with_its_log(tmp_path, monkeypatch):
    monkeypatch.setattr(
        *(finetuning.subprocess, "run"),
        lambda command, **_: finetuning.subprocess.CompletedProcess(command, 3),
    )
    with pytest.raises(InputError, match=r"finetuned.ours .* ended with 3: see .*seed\.log"):
        finetuning.run_seed("ours", {}, tmp_path / "seed.json")
    assert not (tmp_path / "seed.json").exists()


THEIRS = [0.80, 0.82, 0.84]  # mean 0.82, standard deviation 0.02


@pytest.mark.parametrize(
    ("mean", "place"), [(0.801, "within"), (0.839, "within"), (0.799, "below"), (0.841, "above")]
)
def test_our_mean_beside_their_spread(mean, place):
    said = verdict([mean - 0.01, mean, mean + 0.01], THEIRS)
    assert said.startswith(f"our mean {mean:.4f} lies {place} their 0.8200 ± 0.0200 ")


def test_the_p_value_of_welch():
    # By hand: t = -0.01 / sqrt(0.0001 / 3 + 0.0004 / 3), of 2.941 degrees of freedom.
    ours = [0.80, 0.81, 0.82]
    assert welch(ours, THEIRS) == pytest.approx(0.49606, abs=1e-5)
    assert verdict(ours, THEIRS).endswith("p = 0.496")
    assert 0 < welch([0.5, 0.6], [0.5, 0.5]) < 1  # without a warning
    assert (welch([0.5, 0.5], [0.5, 0.5]), welch([0.5, 0.5], [0.6, 0.6])) == (1.0, 0.0)


def test_one_seed_has_no_spread():
    assert verdict([0.5], [0.6]) == "our mean 0.5000 beside their 0.6000; one seed has no spread"


def test_the_table():
    results = {
        "ours": {0: result(0.81), 1: result(0.83, training=12.0, compiling=4.0)},
        "theirs": {0: result(0.80, 40.0, 0.0), 1: result(0.84, 24.0, 0.0, steps=10)},
    }
    lines = report(results, "accuracy", steps_per_epoch=10)
    numbers = {line[:42].strip(): line[42:].split() for line in lines}
    assert numbers["test accuracy, bert_jax"] == ["0.82", "0.01414", "0.81", "0.83"]
    assert numbers["validation accuracy, Hugging Face"] == ["0.82", "0.02828", "0.8", "0.84"]
    assert numbers["seconds an epoch, bert_jax"] == ["5", "1.414", "4", "6"]
    assert numbers["seconds an epoch, bert_jax with compilation"[:42]][-2:] == ["5", "8"]
    assert numbers["seconds an epoch, Hugging Face"][-2:] == ["20", "24"]
    assert numbers["Hugging Face / bert_jax"] == ["4.5", "0.7071", "5", "4"]
    assert numbers["Hugging Face / bert_jax with compilation"] == ["3.5", "0.7071", "4", "3"]
    assert lines[-1].startswith("test accuracy: our mean 0.8200 lies within their 0.8200 ± 0.0283")


def test_the_table_of_one_system():
    lines = report({"theirs": {0: result(), 1: result()}}, "accuracy", steps_per_epoch=10)
    assert not any("/" in line or "p =" in line for line in lines)
