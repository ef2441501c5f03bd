"""GLUE (arXiv:1804.07461): one of its nine tasks, by the metric that it is ranked by.

    python -m bert_jax.finetune --config=configs/finetune_glue.py:mrpc \
        --workdir=runs/mrpc --config.init_from=runs/bert --config.seeds=5
    python -m bert_jax.evaluate --config=configs/finetune_glue.py:mrpc \
        --workdir=runs/mrpc/seed_0 --config.submit=True

The tasks are cola, sst2, mrpc, stsb, qqp, mnli, qnli, rte and wnli; `:mrpc,tiny` is one cut down.
The test rows have no public labels, so `evaluate` reports on the validation rows, which chose
the checkpoint too, as the published numbers of this kind do; with mnli on the matched and the
mismatched ones, and so does the table of the seeds. `--config.submit=True` writes the
answers to the test rows beside it (MRPC.tsv and so on, mnli also AX.tsv), as gluebenchmark.com
takes them.

Published: the mean of 5 seeds from bert-base-cased, Hugging Face's Flax example (transformers,
examples/flax/text-classification), on the validation rows. cola 59.0 Matthews; sst2 92.2
accuracy; mrpc 89.0 F1, 84.4 accuracy; stsb 88.9 Pearson, 88.6 Spearman; qqp 90.8 accuracy,
87.5 F1; mnli 83.8 accuracy; qnli 90.8; rte 64.8. wnli has none there.

Rows come from TFDS; `:mrpc,files` reads the official archives instead, unpacked under glue_data/
(glue_data/MRPC/train.tsv, glue_data/diagnostic/diagnostic.tsv). CoLA's train.tsv and dev.tsv lack
a header: put one there, `sed -i '1i source\\tlabel\\tmark\\tsentence'`. A row with too few columns
is an error: QQP's train.tsv of 2018 has a few, which `awk -F'\\t' NF==6` leaves out as TFDS does.
"""

from ml_collections import ConfigDict

from configs import finetune_sentiment

SENTENCES = ("sentence1", "sentence2")
# Metric, fields, file of the submission, what it has for a label.
TASKS = {
    "cola": ("matthews", ("sentence", ""), "CoLA.tsv", ("unacceptable=0", "acceptable=1")),
    "sst2": ("accuracy", ("sentence", ""), "SST-2.tsv", ("negative=0", "positive=1")),
    "mrpc": ("f1", SENTENCES, "MRPC.tsv", ("not_equivalent=0", "equivalent=1")),
    "stsb": ("spearman", SENTENCES, "STS-B.tsv", ()),
    "qqp": ("f1", ("question1", "question2"), "QQP.tsv", ("not_duplicate=0", "duplicate=1")),
    "mnli": ("accuracy", ("premise", "hypothesis"), "MNLI-m.tsv", ()),
    "qnli": ("accuracy", ("question", "sentence"), "QNLI.tsv", ()),
    "rte": ("accuracy", SENTENCES, "RTE.tsv", ()),
    "wnli": ("accuracy", SENTENCES, "WNLI.tsv", ("not_entailment=0", "entailment=1")),
}
POSITIVE = {"mrpc": "equivalent", "qqp": "duplicate"}
FOLDER = "glue_data"
# Of the archives: the folder, and the fields that have another name there than in TFDS.
FILES = {
    "cola": ("CoLA", {}),
    "sst2": ("SST-2", {}),
    "mrpc": (
        "MRPC",
        dict(
            text_field="#1 String",
            pair_field="#2 String",
            label_field="Quality",
            positive_label="1",
        ),
    ),
    "stsb": ("STS-B", dict(label_field="score")),
    "qqp": ("QQP", dict(label_field="is_duplicate", positive_label="1")),
    "mnli": (
        "MNLI",
        dict(text_field="sentence1", pair_field="sentence2", label_field="gold_label"),
    ),
    "qnli": ("QNLI", {}),
    "rte": ("RTE", {}),
    "wnli": ("WNLI", {}),
}
VARIANTS = ("", "tiny", "files")


def get_config(arg: str = "") -> ConfigDict:
    """The config; `arg` is "" (the same as "cola"), "tiny", "TASK", "TASK,tiny" or "TASK,files"."""
    name, _, variant = arg.partition(",")
    if name in ("", "tiny"):
        name, variant = "cola", name
    if name not in TASKS:
        raise ValueError(f"no variant {arg!r}: choose one of {', '.join(TASKS)}")
    if variant not in VARIANTS:
        raise ValueError(f"no variant {variant!r}: choose one of tiny, files")
    config = finetune_sentiment.get_config(variant.removeprefix("files"))
    metric, (text, pair), file, written = TASKS[name]
    source, matched = f"tfds:glue/{name}", "_matched" if name == "mnli" else ""
    config.task = "regress" if name == "stsb" else "classify"
    config.metric = metric
    config.data.update(
        train=source,
        validation=f"{source}:validation{matched}",
        test=f"{source}:validation{matched}",
        text_field=text,
        pair_field=pair,
        positive_label=POSITIVE.get(name, ""),
        form="whole",
    )

    def submission(rows: str, file: str) -> ConfigDict:
        return ConfigDict(dict(rows=rows, file=file, form="glue", written=written))

    config.submissions = (submission(f"{source}:test{matched}", file),)
    if name == "mnli":
        config.data.further_tests = (f"{source}:validation_mismatched",)
        config.submissions += (
            submission(f"{source}:test_mismatched", "MNLI-mm.tsv"),
            submission("tfds:glue/ax:test", "AX.tsv"),
        )
    if variant == "files":
        use_files(config, name)
    return config


def use_files(config: ConfigDict, name: str) -> None:
    """Has the config read the official archives."""
    folder, fields = FILES[name]
    matched = "_matched" if name == "mnli" else ""
    dev = f"{FOLDER}/{folder}/dev{matched}.tsv"
    config.data.update(train=f"{FOLDER}/{folder}/train.tsv", validation=dev, test=dev, **fields)
    tests = [f"{FOLDER}/{folder}/test{matched}.tsv"]
    if name == "mnli":
        config.data.further_tests = (f"{FOLDER}/MNLI/dev_mismatched.tsv",)
        tests += [f"{FOLDER}/MNLI/test_mismatched.tsv", f"{FOLDER}/diagnostic/diagnostic.tsv"]
    for submission, rows in zip(config.submissions, tests, strict=True):
        submission.rows = rows  # whose labels are as written already
