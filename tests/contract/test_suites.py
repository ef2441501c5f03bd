"""Every task of the suites: its config builds, and names what the suite has."""

import dataclasses
import importlib

import pytest
from tensorflow_datasets.text import glue

from bert_jax.errors import InputError
from bert_jax.fields import build
from bert_jax.finetune_config import FinetuneConfig
from bert_jax.tasks import all_tasks, span_scores, submission
from bert_jax.text import suites
from bert_jax.text.labelled import read_unlabelled
from configs import finetune_chinese, finetune_clue, finetune_glue

SUITES = {
    "finetune_glue": finetune_glue.TASKS,
    "finetune_clue": finetune_clue.TASKS,
    "finetune_chinese": finetune_chinese.TASKS,
}
TASKS = [(suite, task) for suite, tasks in SUITES.items() for task in tasks]
GLUE = {config.name: config for config in glue.Glue.BUILDER_CONFIGS}


def load(suite, arg):
    values = importlib.import_module(f"configs.{suite}").get_config(arg)
    values.init_from = "runs/base"
    return build(FinetuneConfig, values)


@pytest.mark.parametrize(("suite", "task"), TASKS)
def test_a_task_of_a_suite_builds(suite, task):
    config = load(suite, task)
    all_tasks.named(config.task).check(config)
    tiny = load(suite, f"{task},tiny")
    assert (tiny.data, tiny.submissions) == (config.data, config.submissions)
    assert tiny.max_length == 32 < config.max_length
    assert all((config.data.train, config.data.validation, config.data.test))
    assert not config.submit
    assert f" {task}" in importlib.import_module(f"configs.{suite}").__doc__


@pytest.mark.parametrize("suite", SUITES)
def test_an_unknown_task_of_a_suite_is_refused(suite):
    for arg in ("enormous", "enormous,tiny"):
        with pytest.raises(ValueError, match=f"no variant '{arg}': choose one of"):
            importlib.import_module(f"configs.{suite}").get_config(arg)
    name = next(iter(SUITES[suite]))
    with pytest.raises(ValueError, match="no variant 'enormous'"):
        importlib.import_module(f"configs.{suite}").get_config(f"{name},enormous")


@pytest.mark.parametrize("task", finetune_glue.TASKS)
def test_glue_is_as_tensorflow_datasets_has_it(task):
    config, theirs = load("finetune_glue", task), GLUE[task]
    fields = {config.data.text_field, config.data.pair_field} - {""}
    assert fields == set(theirs.text_features)
    assert (config.task == "regress") == (theirs.label_classes is None)
    classes = theirs.label_classes or []
    (*_, first) = reversed(config.submissions)
    written = dict(pair.split("=") for pair in first.written)
    # Numbers stand for classes in their order; else the names are written.
    assert list(map(written.get, classes)) in ([None] * len(classes), ["0", "1"])
    assert config.data.positive_label in ("", classes[1] if len(classes) > 1 else "")


# The columns of the archives' train.tsv and dev.tsv, those that test.tsv has in their place, and
# which of them are the text, the second text and the label; of CoLA once it has a header.
STSB = "index genre filename year old_index source1 source2 sentence1 sentence2"
PARSES = "sentence1_binary_parse sentence2_binary_parse sentence1_parse sentence2_parse"
MNLI = f"index promptID pairID genre {PARSES} sentence1 sentence2"
OFFICIAL = {
    "cola": ("source label mark sentence", "index sentence", "sentence||label"),
    "sst2": ("sentence label", "index sentence", "sentence||label"),
    "mrpc": (
        "Quality|#1 ID|#2 ID|#1 String|#2 String",
        "index|#1 ID|#2 ID|#1 String|#2 String",
        "#1 String|#2 String|Quality",
    ),
    "stsb": (f"{STSB} score", STSB, "sentence1|sentence2|score"),
    "qqp": (
        "id qid1 qid2 question1 question2 is_duplicate",
        "id question1 question2",
        "question1|question2|is_duplicate",
    ),
    "mnli": (f"{MNLI} label1 gold_label", MNLI, "sentence1|sentence2|gold_label"),
    "qnli": ("index question sentence label", "index question sentence", "question|sentence|label"),
    "rte": (
        "index sentence1 sentence2 label",
        "index sentence1 sentence2",
        "sentence1|sentence2|label",
    ),
    "wnli": (
        "index sentence1 sentence2 label",
        "index sentence1 sentence2",
        "sentence1|sentence2|label",
    ),
}
DIAGNOSTIC = "index sentence1 sentence2"


def columns(text):
    return text.split("|" if "|" in text else " ")


@pytest.mark.parametrize("task", finetune_glue.TASKS)
def test_the_files_of_glue_are_read_as_they_are(task, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = load("finetune_glue", f"{task},files")
    kind = all_tasks.named(config.task)
    kind.check(config)
    data, of_tfds = config.data, load("finetune_glue", task)
    labelled, unlabelled, (first, second, label) = map(columns, OFFICIAL[task])
    classes = GLUE[task].label_classes or ("2.5", "0")
    written = dict(pair.split("=") for pair in of_tfds.submissions[0].written)
    labels = [written.get(name, name) for name in classes]
    texts = 'one "', "another" if second else ""

    def write(source, names):
        path = tmp_path / source
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [dict.fromkeys(names, "x") for _ in labels]
        for number, (row, value) in enumerate(zip(rows, labels, strict=True)):
            row |= dict.fromkeys(("index", "id"), str(number))
            row |= {second: texts[1], first: texts[0], label: value}
        lines = ["\t".join(names), *("\t".join(row[name] for name in names) for row in rows)]
        path.write_text("".join(f"{line}\n" for line in lines), "utf-8")

    for source in {data.train, data.validation, data.test, *data.further_tests}:
        write(source, labelled)
        rows = kind.read(source, data)
        assert [(row.text, row.pair) for row in rows] == [texts] * len(labels)
        assert [row.label for row in rows] == ([2.5, 0] if task == "stsb" else labels)
        kind.find_labels(rows, data)  # which knows the positive one
    for one in config.submissions:
        names = columns(DIAGNOSTIC) if "diagnostic" in one.rows else unlabelled
        write(one.rows, names)
        found = read_unlabelled(one.rows, data)
        assert [(row.text, row.pair) for _, row in found] == [texts] * len(labels)
        assert [id for id, _ in found] == [str(number) for number in range(len(labels))]
    assert len(config.submissions) == len(of_tfds.submissions)


def test_glue_has_its_official_metrics_and_files():
    # gluebenchmark.com/tasks, and the names that its FAQ asks for.
    metrics = {task: load("finetune_glue", task).metric for task in finetune_glue.TASKS}
    assert metrics == {
        "cola": "matthews",
        "stsb": "spearman",
        **dict.fromkeys(("mrpc", "qqp"), "f1"),
        **dict.fromkeys(("sst2", "mnli", "qnli", "rte", "wnli"), "accuracy"),
    }
    files = {one.file for task in metrics for one in load("finetune_glue", task).submissions}
    assert files == {
        *("CoLA.tsv", "SST-2.tsv", "MRPC.tsv", "STS-B.tsv", "QQP.tsv", "MNLI-m.tsv"),
        *("MNLI-mm.tsv", "AX.tsv", "QNLI.tsv", "RTE.tsv", "WNLI.tsv"),
    }
    mnli = load("finetune_glue", "mnli")
    assert mnli.data.test == "tfds:glue/mnli:validation_matched"
    assert mnli.data.further_tests == ("tfds:glue/mnli:validation_mismatched",)


def test_clue_has_its_official_files():
    # CLUE's instructions of 2021-09-04: a new test set has its version in the name.
    files = {load("finetune_clue", task).submissions[0].file for task in finetune_clue.TASKS}
    assert files == {
        f"{name}_predict.json"
        for name in ("afqmc", "tnews11", "iflytek", "cmnli", "ocnli_50k", "cluewsc11", "csl")
    }


def test_a_config_knows_the_forms_and_rules_that_there_are():
    config = load("finetune_glue", "mnli")
    known = (
        (config.data, "form", suites.FORMS),
        (config.data, "answer_rules", span_scores.RULES),
        (config.submissions[0], "form", submission.FORMS),
    )
    for section, field, there_are in known:
        with pytest.raises(InputError) as refused:
            dataclasses.replace(section, **{field: ""})
        assert str(refused.value).endswith(f"choose one of {', '.join(there_are)}."), field
