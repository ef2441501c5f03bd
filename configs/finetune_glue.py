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

Rows come from TFDS. From the official files instead, with the names of their columns:
`--config.data.train=MRPC/train.tsv --config.data.validation=MRPC/dev.tsv --config.data.test=...
--config.data.text_field="#1 String" --config.data.pair_field="#2 String"
--config.data.label_field=Quality --config.data.positive_label=1
--config.submissions[0].rows=MRPC/test.tsv`. CoLA's train.tsv and dev.tsv lack a header: put one
there, `sed -i '1i source\\tlabel\\tmark\\tsentence'`. A row with too few columns is an error.
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


def get_config(arg: str = "") -> ConfigDict:
    """The config; `arg` is "" (the same as "cola"), "tiny", "TASK" or "TASK,tiny"."""
    name, _, variant = arg.partition(",")
    if name in ("", "tiny"):
        name, variant = "cola", name
    if name not in TASKS:
        raise ValueError(f"no variant {arg!r}: choose one of {', '.join(TASKS)}")
    config = finetune_sentiment.get_config(variant)
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
    return config
