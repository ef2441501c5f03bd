"""Chinese benchmarks with public test rows: XNLI, ChnSentiCorp and LCQMC, by accuracy.

    python -m bert_jax.finetune --config=configs/finetune_chinese.py:xnli \
        --workdir=runs/xnli --config.init_from=runs/bert --config.seeds=5
    python -m bert_jax.evaluate --config=configs/finetune_chinese.py:xnli --workdir=runs/xnli/seed_0

The tasks are xnli, chnsenticorp and lcqmc; `:xnli,tiny` is one cut down.

Published: BERT-base of the Chinese-BERT-wwm paper (arXiv:1906.08101), test accuracy, the best run
and in brackets the mean of ten: xnli 77.8; chnsenticorp 95.0 (94.7); lcqmc 86.9.

xnli trains on the translated MultiNLI (XNLI-MT-1.0/multinli/multinli.train.zh.tsv) and is
validated and tested on the Chinese rows of XNLI-1.0. The other two are read from train.tsv,
dev.tsv and test.tsv with a header: label and text_a; text_a, text_b and label. Copies without one
need `--config.data.columns="('text_a', 'text_b', 'label')"`. For other places and names set
config.data.*.
"""

from ml_collections import ConfigDict

from configs import finetune_sentiment

# Files, fields, form.
TASKS = {
    "xnli": (
        (
            "XNLI-MT-1.0/multinli/multinli.train.zh.tsv",
            "XNLI-1.0/xnli.dev.tsv",
            "XNLI-1.0/xnli.test.tsv",
        ),
        ("premise", "hypo"),
        "xnli_zh",
    ),
    "chnsenticorp": (
        tuple(f"chnsenticorp/{split}.tsv" for split in ("train", "dev", "test")),
        ("text_a", ""),
        "plain",
    ),
    "lcqmc": (
        tuple(f"lcqmc/{split}.tsv" for split in ("train", "dev", "test")),
        ("text_a", "text_b"),
        "plain",
    ),
}


def get_config(arg: str = "") -> ConfigDict:
    """The config; `arg` is "" (the same as "xnli"), "tiny", "TASK" or "TASK,tiny"."""
    name, _, variant = arg.partition(",")
    if name in ("", "tiny"):
        name, variant = "xnli", name
    if name not in TASKS:
        raise ValueError(f"no variant {arg!r}: choose one of {', '.join(TASKS)}")
    config = finetune_sentiment.get_config(variant)
    (train, validation, test), (text, pair), form = TASKS[name]
    config.data.update(
        train=train,
        validation=validation,
        test=test,
        text_field=text,
        pair_field=pair,
        form=form,
    )
    if name == "chnsenticorp" and not variant:
        config.max_length = 256
    return config
