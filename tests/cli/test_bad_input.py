"""What a user can get wrong: one sentence, exit code 2, nothing half-written."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from cli.conftest import FINETUNE, PREPARE, PRETRAIN, ROOT, run_command
from integration import corpus

LONG = "河边的旅馆让人满意，" * 20


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


# Each case: what the folder is to hold, the command, and a regex of the message. The
# command gets the folder and what the stages made; its results go under folder/out.
def prepare(folder, *flags):
    return ("prepare", *PREPARE, *flags, f"--workdir={folder}/out")


def pretrain(folder, *flags):
    return ("pretrain", *PRETRAIN, *flags, f"--workdir={folder}/out")


def finetune(folder, made, rows, *flags):
    train = write(folder / "train.csv", rows)
    return (
        *("finetune", *FINETUNE, "--config.init_from=none", f"--workdir={folder}/out"),
        *(f"--config.tokenizer={made.data}/tokenizer", f"--config.data.train={train}", *flags),
    )


def all_rows(path):
    """Flags: every split is this file."""
    return [f"--config.data.{split}={path}" for split in ("train", "validation", "test")]


def predict(folder, *flags):
    return ("predict", f"--output={folder}/out", *flags)


def no_text(folder, made):
    path = write(folder / "empty.txt", "\n\n")
    return prepare(folder, f"--config.sources=('{path}',)")


def not_utf8(folder, made):
    path = write(folder / "gbk.txt", "好\n".encode() + "书店".encode("gbk"))
    return prepare(folder, f"--config.sources=('{path}',)")


def text_not_utf8(folder, made):
    return predict(folder, f"--model={made.classifier}", "--text=好", "--text=\udcba\udcc3")


def vocabulary_without_mask(folder, made):
    path = write(folder / "vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n书\n店\n")
    return prepare(
        *(folder, f"--config.sources=('{made.documents}',)", f"--config.tokenizer.path={path}")
    )


def label_empty(folder, made):
    return finetune(folder, made, "text,label\n很好,好评\n不好,\n")


def label_field_missing(folder, made):
    return finetune(folder, made, "text,stars\n很好,5\n不好,1\n")


def label_never_seen(folder, made):
    path = write(folder / "validation.csv", "text,label\n很好,好评\n一般,中评\n")
    rows = "text,label\n很好,好评\n不好,差评\n"
    return finetune(folder, made, rows, f"--config.data.validation={path}")


def label_a_fraction(folder, made):
    rows = "text,label\n很好,4.5\n不好,1.0\n一般,3.0\n"
    return finetune(folder, made, rows, *all_rows(folder / "train.csv"))


def label_of_one_class(folder, made):
    rows = "text,label\n很好,好评\n不好,好评\n"
    return finetune(folder, made, rows, *all_rows(folder / "train.csv"))


def row_with_too_few_fields(folder, made):
    return finetune(folder, made, "text,label\n很好,好评\n不好\n")


def text_empty(folder, made):
    return finetune(folder, made, "text,label\n很好,好评\n,差评\n")


def id_twice(folder, made):
    rows = "id,text,label\n7,很好,好评\n8,一般,差评\n7,不好,差评\n"
    return finetune(folder, made, rows, "--config.data.id_field=id")


def tag_outside_the_scheme(folder, made):
    path = write(folder / "train.conll", "李 B-PER\n明 I-PER\n来 O\n\n北 PER\n")
    return (
        *("finetune", "--config=configs/finetune_ner.py:tiny", "--config.init_from=none"),
        *(f"--config.tokenizer={made.data}/tokenizer", f"--workdir={folder}/out"),
        *all_rows(path),
    )


def answer_not_in_its_context(folder, made):
    answers = [{"text": "上海", "answer_start": 0}]
    questions = [{"id": "q1", "question": "在哪里？", "answers": answers}]
    paragraphs = [{"context": "北京是首都。", "qas": questions}]
    path = write(folder / "train.json", json.dumps({"data": [{"paragraphs": paragraphs}]}))
    return (
        *("finetune", "--config=configs/finetune_squad.py:tiny", "--config.init_from=none"),
        *(f"--config.tokenizer={made.data}/tokenizer", f"--workdir={folder}/out"),
        *all_rows(path),
    )


def config_typo(folder, made):
    return pretrain(folder, "--config.optimizer.learning_rat=1e-3")


def config_typo_far_from_all(folder, made):
    return pretrain(folder, "--config.model.hiden=3")


def config_typo_in_an_element(folder, made):
    return (
        *("pretrain", "--config=configs/pretrain_phases.py", f"--workdir={folder}/out"),
        "--config.then[0].batch_sise=3",
    )


def config_field_of_a_number(folder, made):
    return pretrain(folder, "--config.batch_size.x=3")


def config_element_missing(folder, made):
    return pretrain(folder, "--config.then[7].steps=3")


def config_wrong_type(folder, made):
    return pretrain(folder, "--config.batch_size=many")


def config_file_missing(folder, made):
    return ("pretrain", "--config=configs/pretrain_huge.py", f"--workdir={folder}/out")


def config_variant_missing(folder, made):
    return ("pretrain", "--config=configs/pretrain_large.py:huge", f"--workdir={folder}/out")


def config_raises(folder, made):
    path = write(folder / "raises.py", "import no_such_module\n")
    return ("pretrain", f"--config={path}", "--config.seed=1", f"--workdir={folder}/out")


def config_reads_a_missing_file(folder, made):
    path = write(folder / "reads.py", "def get_config():\n    open('/no/such/file')\n")
    return ("pretrain", f"--config={path}", f"--workdir={folder}/out")


def workdir_missing(folder, made):
    return ("pretrain", *PRETRAIN, f"--config.data={made.data}")


def no_dataset(folder, made):
    return pretrain(folder, f"--config.data={folder}")


def inspect_no_dataset(folder, made):
    return ("inspect", f"--data={folder}")


def inspect_damaged_shard(folder, made):
    data = shutil.copytree(made.data, folder / "data")
    shard = min(data.glob("*train.array_record*"))
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    return ("inspect", f"--data={data}")


def inspect_unknown_unit(folder, made):
    return ("inspect", f"--data={made.data}", "--unit=piece")


def plot_in_no_directory(folder, made):
    return ("inspect", f"--data={made.data}", f"--plot={folder}/out/plot.png")


def rows_longer_than_positions(folder, made):
    return pretrain(folder, f"--config.data={made.data}", "--config.model.positions=24")


def max_length_over_positions(folder, made):
    return finetune(
        *(folder, made, "text,label\n很好,好评\n不好,差评\n"),
        *(f"--config.init_from={made.pretrained}", "--config.tokenizer=", "--config.max_length=41"),
    )


def no_checkpoint(folder, made):
    return predict(folder, f"--model={made.data}", "--text=好")


def damaged_checkpoint(folder, made):
    run = shutil.copytree(made.pretrained, folder / "run")
    for path in run.glob("checkpoints/*/params/d/*"):
        path.write_bytes(path.read_bytes()[:-9] + b"x" * 9)
    return predict(folder, f"--model={run}", "--text=[MASK]好")


def text_too_long(folder, made):
    path = write(folder / "texts.txt", f"很好\n{LONG}\n")
    return predict(folder, f"--model={made.classifier}", f"--input={path}")


def text_without_mask(folder, made):
    return predict(folder, f"--model={made.pretrained}", "--text=[MASK]好", "--text=很好")


def text_and_input(folder, made):
    path = write(folder / "texts.txt", "很好\n")
    return predict(folder, f"--model={made.classifier}", "--text=好", f"--input={path}")


def neither_text_nor_input(folder, made):
    return predict(folder, f"--model={made.classifier}")


def input_empty(folder, made):
    path = write(folder / "texts.txt", "")
    return predict(folder, f"--model={made.classifier}", f"--input={path}")


def input_missing(folder, made):
    return predict(folder, f"--model={made.classifier}", f"--input={folder}/none.txt")


def output_in_no_directory(folder, made):
    return ("predict", f"--model={made.classifier}", "--text=好", f"--output={folder}/out/a.jsonl")


def convert(folder, source, *flags):
    return ("convert", f"--from={source}", f"--to={folder}/out", *flags)


def pickle_that_runs_code(folder, made):
    path = write(folder / "pytorch_model.bin", b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R.")
    return convert(folder, path)


def convert_to_an_unknown_format(folder, made):
    return convert(folder, made.pretrained, "--format=onnx")


def convert_onto_something(folder, made):
    return ("convert", f"--from={made.pretrained}", f"--to={made.data}")


def plan_unknown_topology(folder, made):
    return ("plan", "--config=configs/pretrain_base.py:tiny", "--topology=v9:4x4")


def unknown_flag(folder, made):
    return predict(folder, f"--model={made.classifier}", "--txt=好")


def read_only_workdir(folder, made):
    folder.chmod(0o500)
    return pretrain(folder, f"--config.data={made.data}")


def workdir_is_a_file(folder, made):
    write(folder / "file", "")
    return ("pretrain", *PRETRAIN, f"--config.data={made.data}", f"--workdir={folder}/file")


CASES = {
    no_text: r"empty\.txt holds no document",
    text_not_utf8: r"--text number 2 is not UTF-8: give it in a file with --input",
    not_utf8: r"gbk\.txt is not UTF-8: byte 4 ",
    vocabulary_without_mask: r"vocab\.txt has no \[MASK\]",
    label_empty: r"train\.csv:3: the label in field 'label' is empty",
    label_field_missing: r"train\.csv:2 has no field 'label'; it has 'text', 'stars'",
    label_never_seen: r"validation\.csv:3: label '中评' was never seen in training",
    label_a_fraction: r"train\.csv:2: the label '4\.5' is a number and no class: set",
    label_of_one_class: r"train\.csv has the one label '好评': two are needed",
    row_with_too_few_fields: r"train\.csv:3 has 1 fields where the header has 2 \(text, label\)",
    text_empty: r"train\.csv:3: the text in field 'text' is empty",
    id_twice: r"train\.csv:4: the id '7' in field 'id' is also that of .*train\.csv:2",
    tag_outside_the_scheme: r"train\.conll:5: tag 'PER' of '北' is outside the scheme BIO",
    answer_not_in_its_context: r"train\.json, question q1: the answer '上海' is not at character 0",
    config_typo: r"optimizer\.learning_rat is not a field; did you mean .*\.learning_rate\?",
    config_typo_far_from_all: r"config\.model\.hiden is not a field; choose one of .*width",
    config_typo_in_an_element: r"config\.then\[0\]\.batch_sise .*config\.then\[0\]\.batch_size\?",
    config_field_of_a_number: r"config\.batch_size has no fields, so config\.batch_size\.x",
    config_element_missing: r"config\.then has no element \[7\]",
    config_wrong_type: r"config\.batch_size.*many",
    config_file_missing: r"--config=configs/pretrain_huge\.py is no file",
    config_variant_missing: r"--config=configs/pretrain_large\.py:huge: .*no variant 'huge'.*tiny",
    config_raises: r"--config=.*raises\.py: No module named 'no_such_module'",
    config_reads_a_missing_file: r"--config=.*reads\.py: .*No such file.*'/no/such/file'",
    workdir_missing: r"--workdir",
    no_dataset: r"holds no prepared dataset",
    inspect_no_dataset: r"holds no prepared dataset",
    inspect_damaged_shard: r"train\.array_record-00000-of-\d+ is damaged",
    inspect_unknown_unit: r"--unit=piece.*token",
    plot_in_no_directory: r"out/plot\.png cannot be written.*--plot=FILE",
    rows_longer_than_positions: r"32 tokens.*config\.model\.positions=24",
    max_length_over_positions: r"config\.max_length=41 is over the 40 positions",
    no_checkpoint: r"data holds no finished checkpoint",
    damaged_checkpoint: r"checkpoints/10 is damaged \(.*\): run its training again, .*or delete",
    text_too_long: r"texts\.txt:2 has \d+ tokens and the model takes 32",
    text_without_mask: r"--text number 2 holds no \[MASK\]",
    text_and_input: r"either --text .* or --input",
    neither_text_nor_input: r"either --text .* or --input",
    input_empty: r"texts\.txt holds no text",
    input_missing: r"none\.txt cannot be read",
    output_in_no_directory: r"--output=.*out/a\.jsonl is in a directory that does not exist",
    pickle_that_runs_code: r"pytorch_model\.bin is a pickle that wants os\.system",
    convert_to_an_unknown_format: r"--format=onnx is not known",
    convert_onto_something: r"--to=.*data already holds something",
    plan_unknown_topology: r"--topology=v9:4x4 is not known.* v5e: 1x1 2x2 .*; v5p: ",
    unknown_flag: r"Unknown command line flag 'txt'",
    read_only_workdir: r"--workdir=.*cannot be written",
    workdir_is_a_file: r"--workdir=.*cannot be written",
}


class Done(NamedTuple):
    """A command that has ended."""

    module: str
    code: int
    stdout: str
    stderr: str


@pytest.fixture(scope="module")
def results(made, tmp_path_factory):
    """The folder of every case, and how its command ended."""
    folders = {case: tmp_path_factory.mktemp(case.__name__) for case in CASES}
    commands = [case(folders[case], made) for case in CASES]
    forked = subprocess.run(
        [sys.executable, Path(__file__).with_name("forked.py")],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)},
        input=json.dumps([[str(part) for part in command] for command in commands]),
        stdout=subprocess.PIPE,
        timeout=300,  # for all: none trains
        check=True,
        text=True,
    )
    done = [
        Done(command[0], *how)
        for command, how in zip(commands, json.loads(forked.stdout), strict=True)
    ]
    return folders, dict(zip(CASES, done, strict=True))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_one_sentence_and_nothing_half_written(case, results):
    folders, done = results
    if case is read_only_workdir and os.geteuid() == 0:
        pytest.skip("the superuser writes anywhere")
    stderr = done[case].stderr
    assert done[case].code == 2, stderr
    assert "Traceback" not in stderr
    if done[case].module == "predict":
        assert done[case].stdout == ""
    errors = [line for line in re.split(r"[\r\n]+", stderr) if line.startswith("error:")]
    assert len(errors) == 1, stderr
    assert re.search(CASES[case], errors[0]), errors[0]
    # Beside a progress bar nothing else is said.
    others = [line for line in re.split(r"[\r\n]+", stderr) if line and line not in errors]
    assert all("documents" in line or "it/s" in line or "|" in line for line in others), stderr
    out = folders[case] / "out"
    assert out.is_dir() or not out.exists()
    left = {path.name for path in out.rglob("*") if path.is_file()} if out.exists() else set()
    assert left <= {"config.json"}


def test_a_mended_command_goes_on_in_the_same_workdir(results, made):
    """What a refused preparation left does not stand in the way of the right one."""
    folders, done = results
    assert done[not_utf8].code == 2
    path = corpus.write_documents(folders[not_utf8] / "gbk.txt", corpus.documents(30))
    mended = run_command(*prepare(folders[not_utf8], f"--config.sources=('{path}',)"))
    assert mended.returncode == 0, mended.stderr.decode()
    assert (folders[not_utf8] / "out" / "manifest.json").is_file()
