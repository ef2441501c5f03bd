"""Each entry point as a user calls it, on `:tiny` configs."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
from cli.conftest import FINETUNE, PRETRAIN, ROOT
from integration import corpus

TEXTS = ("河边的旅馆让人满意，老板很热情。", "旧书糟糕，周末再看店员也失望。")


def metrics(workdir):
    lines = (workdir / "metrics.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def config(workdir):
    return json.loads((workdir / "config.json").read_text("utf-8"))


def assert_is_complete(workdir):
    """Everything that a training workdir holds."""
    assert (workdir / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert (workdir / "tokenizer" / "vocab.txt").is_file()
    assert list((workdir / "tensorboard").glob("events.out.tfevents.*"))
    assert list((workdir / "checkpoints").glob("[0-9]*"))
    assert not list(workdir.rglob(".partial-*"))
    assert all({"step", "split"} <= point.keys() for point in metrics(workdir))


def test_prepare(made):
    assert "train: " in made.printed["prepare"]
    manifest = json.loads((made.data / "manifest.json").read_text("utf-8"))
    assert manifest["sources"][0]["source"] == str(made.documents)
    assert manifest["sources"][0]["documents"] == 120
    assert config(made.data)["instances"]["length"] == 32
    assert not list(made.data.glob(".*"))


def test_inspect(made, command, tmp_path):
    plot = tmp_path / "plot.png"
    printed = command(
        "inspect", f"--data={made.data}", "--count=2", "--unit=word", f"--plot={plot}"
    )
    assert "3 shards are as they were written" in printed
    assert printed.count("\nrow ") == 2
    assert "→ [MASK]" in printed
    assert "\033" not in printed  # no colours into a pipe
    manifest = json.loads((made.data / "manifest.json").read_text("utf-8"))
    table = {line[:45].strip(): line[45:].split() for line in printed.splitlines()}
    for name in ("documents", "sentences", "words", "tokens", "instances"):
        counts = [f"{manifest['splits'][split][name]:,}" for split in ("train", "heldout")]
        assert table[name] == counts, name
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_pretrain(made):
    assert_is_complete(made.pretrained)
    assert config(made.pretrained)["model"]["positions"] == 40
    # Resolved: the size of the vocabulary and not the 0 of the file.
    assert config(made.pretrained)["model"]["vocab_size"] > 100
    points = {(point["step"], point["split"]): point for point in metrics(made.pretrained)}
    assert set(points) == {(s, split) for s in (5, 10) for split in ("train", "heldout")}
    wanted = {"mlm_loss", "next_loss", "mlm_accuracy", "next_accuracy"}
    assert wanted | {"unigram_loss"} <= points[10, "heldout"].keys()
    assert wanted | {"learning_rate", "tokens_per_second"} <= points[10, "train"].keys()


def test_finetune(made):
    assert_is_complete(made.classifier)
    assert config(made.classifier)["init_from"] == str(made.pretrained)
    assert config(made.classifier)["model"] == config(made.pretrained)["model"]
    validation = [point for point in metrics(made.classifier) if point["split"] == "validation"]
    assert len(validation) == 2
    assert {"accuracy", "macro_f1", "loss"} <= validation[0].keys()


def test_finetune_from_scratch_then_evaluate(made, command, tmp_path):
    flags = (
        *FINETUNE,
        "--config.init_from=none",
        f"--config.tokenizer={made.data}/tokenizer",
        f"--config.data.train={made.reviews}",
        f"--workdir={tmp_path}",
    )
    command("finetune", *flags)
    assert_is_complete(tmp_path)
    assert config(tmp_path)["init_from"] == "none"
    printed = command("evaluate", *flags)
    assert "confusion" in printed
    found = json.loads((tmp_path / "evaluation.json").read_text("utf-8"))
    assert found["labels"] == ["好评", "差评"]
    matrix = found["confusion"]
    assert sum(map(sum, matrix)) == found["rows"] > 5
    right = (matrix[0][0] + matrix[1][1]) / found["rows"]
    assert found["accuracy"] == pytest.approx(right, abs=1e-9)
    # Rows all right or all wrong do not scatter when they are drawn.
    assert (found["standard_errors"]["accuracy"] > 0) == (0 < right < 1)
    for name in ("report.md", "report.html"):
        assert f"{found['accuracy']:.4f}" in (tmp_path / name).read_text("utf-8")


# Of a config file that names test rows by itself.
NAMES_ROWS = """
from configs import finetune_sentiment

def get_config():
    config = finetune_sentiment.get_config("tiny")
    config.data.update(test="not_there.csv", further_tests=("nor_this.csv",))
    return config
"""


def test_evaluate_reads_the_rows_of_the_run_or_of_its_flags(made, command, tmp_path):
    (tmp_path / "rows.py").write_text(NAMES_ROWS)
    run = shutil.copytree(made.classifier, tmp_path / "run")
    flags = ("evaluate", f"--config={tmp_path}/rows.py", f"--workdir={run}")
    printed = command(*flags)
    found = json.loads((run / "evaluation.json").read_text("utf-8"))
    assert found["test"] == f"the test part of {made.reviews}"
    assert "further_tests" not in found
    assert f", {found['rows']} rows of {found['test']}\n" in printed
    other = corpus.write_reviews(tmp_path / "other.csv", corpus.reviews(7, seed=1))
    command(*flags, f"--config.data.test={other}", f"--config.data.further_tests=('{other}',)")
    found = json.loads((run / "evaluation.json").read_text("utf-8"))
    assert (found["test"], found["rows"]) == (str(other), 7)
    assert found["further_tests"][str(other)]["rows"] == 7


def test_evaluate_a_pretraining(made, command):
    printed = command(
        "evaluate", *PRETRAIN, f"--config.data={made.data}", f"--workdir={made.pretrained}"
    )
    assert "mlm_loss" in printed
    found = json.loads((made.pretrained / "evaluation.json").read_text("utf-8"))
    # The held-out rows of the run's own log, all of them: the tiny set has few.
    logged = metrics(made.pretrained)[-1]
    assert found["step"] == logged["step"] == 10
    assert 0 < found["mlm_loss"] < 10
    assert {"next_accuracy", "unigram_loss"} <= found.keys()


def assert_is_classified(line, text):
    assert list(line) == ["text", "label", "probabilities"]
    assert line["text"] == text
    assert set(line["probabilities"]) == {"好评", "差评"}
    assert sum(line["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert line["label"] == max(line["probabilities"], key=line["probabilities"].get)


INPUTS = {
    "lines": ("texts.txt", f"{TEXTS[0]}\n\n{TEXTS[1]}\n", ()),
    "jsonl": (
        "texts.jsonl",
        "".join(json.dumps({"body": text}) + "\n" for text in TEXTS),
        ("--text_field=body",),
    ),
    "csv": ("texts.csv", f'id,text\n1,"{TEXTS[0]}"\n2,{TEXTS[1]}\n', ()),
    "no header": ("texts.tsv", f"1\t{TEXTS[0]}\n0\t{TEXTS[1]}\n", ("--columns=label,text",)),
}


@pytest.fixture(scope="module")
def by_text(made, command):
    """What predict prints for texts given as flags."""
    flags = [f"--text={text}" for text in TEXTS]
    printed = command("predict", f"--model={made.classifier}", *flags)
    return [json.loads(line) for line in printed.splitlines()]


def test_predict_texts(by_text):
    assert len(by_text) == 2
    for line, text in zip(by_text, TEXTS, strict=True):
        assert_is_classified(line, text)


@pytest.mark.parametrize("kind", INPUTS)
def test_predict_a_file_to_a_file(kind, made, command, by_text, tmp_path):
    name, content, flags = INPUTS[kind]
    (tmp_path / name).write_text(content, "utf-8")
    output = tmp_path / "out.jsonl"
    printed = command(
        *("predict", f"--model={made.classifier}", f"--input={tmp_path / name}"),
        *(f"--output={output}", *flags),
    )
    assert printed == ""
    assert [json.loads(line) for line in output.read_text("utf-8").splitlines()] == by_text
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "out.jsonl"])


def test_predict_standard_input(made, command, by_text):
    stdin = "\n".join(TEXTS).encode()
    printed = command("predict", f"--model={made.classifier}", "--input=-", stdin=stdin)
    assert [json.loads(line) for line in printed.splitlines()] == by_text


def test_predict_fills_masks(made, command):
    text = "周末，[MASK]里坐满了[MASK]。"
    printed = command("predict", f"--model={made.pretrained}", f"--text={text}")
    line = json.loads(printed)
    assert list(line) == ["text", "masks"]
    assert line["text"] == text
    assert [filling["mask"] for filling in line["masks"]] == [0] * 5 + [1] * 5
    for fillings in (line["masks"][:5], line["masks"][5:]):
        assert [list(filling) for filling in fillings] == [["mask", "token", "probability"]] * 5
        probabilities = [filling["probability"] for filling in fillings]
        assert 0 < probabilities[-1] <= probabilities[0] < 1
        assert probabilities == sorted(probabilities, reverse=True)
        assert len({filling["token"] for filling in fillings}) == 5


COMMANDS = {
    **dict.fromkeys(("prepare", "pretrain", "finetune", "evaluate"), ("--config", "--workdir")),
    "predict": ("--model", "--text", "--input", "--output", "--[no]truncate"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_help_prints_the_flags(name, command):
    printed = command(name, "--help")
    assert f"python -m bert_jax.{name}" in printed
    for flag in COMMANDS[name]:
        assert re.search(rf"^ *{re.escape(flag)}\b", printed, re.MULTILINE), flag


def test_a_sigterm_ends_a_pretraining_saved_and_with_143(made, tmp_path):
    flags = [f"--config.data={made.data}", f"--workdir={tmp_path}", "--config.steps=1000000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "bert_jax.pretrain", *PRETRAIN, *flags],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    metrics = tmp_path / "metrics.jsonl"
    until = time.monotonic() + 120
    while not (metrics.exists() and metrics.read_text("utf-8")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until, process.kill()
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 143, error
    said = error.splitlines()[-1]
    step = re.fullmatch(
        r"stopped by SIGTERM with step (\d+) saved: run the same command again to go on\.", said
    ).group(1)
    assert (tmp_path / "checkpoints" / step).is_dir()
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("environment", "threads"),
    [
        ({}, "None"),
        ({"JAX_NUM_CPU_DEVICES": "1"}, "None"),
        ({"JAX_NUM_CPU_DEVICES": "80"}, "160"),
        ({"XLA_FLAGS": "--xla_force_host_platform_device_count=90 --xla_other=1"}, "180"),
        ({"JAX_NUM_CPU_DEVICES": "80", "PJRT_NPROC": "3"}, "3"),
    ],
)
def test_cpu_devices_that_wait_for_each_other_have_threads(environment, threads):
    inherited = {k: v for k, v in os.environ.items() if k not in ("PJRT_NPROC", "XLA_FLAGS")}
    code = "import os; from bert_jax import cli; cli.guard(lambda: print(os.getenv('PJRT_NPROC')))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=inherited | environment,
        capture_output=True,
        check=True,
        text=True,
    )
    assert done.stdout.strip() == threads


@pytest.mark.slow
def test_convert_out_and_in_then_predict(made, command, tmp_path):
    there, here = tmp_path / "hf", tmp_path / "here"
    printed = command(
        "convert", f"--from={made.classifier}", f"--to={there}", "--format=huggingface"
    )
    assert "a BertForSequenceClassification for transformers" in printed
    assert re.search(r"classifier +2 +66  loaded", printed)
    assert "a workdir of a classify model" in command("convert", f"--from={there}", f"--to={here}")
    own, other = (
        command("predict", f"--model={model}", f"--text={TEXTS[0]}")
        for model in (made.classifier, here)
    )
    assert json.loads(own) == json.loads(other)
