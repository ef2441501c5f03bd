"""Any number of labels for a text, from one's own rows: CSV, TSV, JSONL or Parquet.

    python -m bert_jax.finetune --config=configs/finetune_multilabel.py \
        --workdir=runs/topics --config.init_from=runs/base --config.data.train=topics.jsonl

A label field holds a list, or text with label_separator between the labels.
"""

from ml_collections import ConfigDict

from configs import finetune_sentiment


def get_config(arg: str = "") -> ConfigDict:
    """The config; `arg` is "" or "tiny"."""
    config = finetune_sentiment.get_config(arg)
    config.task = "multilabel"
    config.data.update(train="", label_field="labels")
    config.metric = "micro_f1"
    return config
