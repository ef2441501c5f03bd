"""Paraphrases, a class for a pair of sentences: MRPC of GLUE, by F1 of the equivalent ones.

    python -m bert_jax.finetune --config=configs/finetune_pairs.py \
        --workdir=runs/mrpc --config.init_from=runs/base

BERT-Base has 88.9 on the test rows, whose labels are not public (arXiv:1810.04805, table 1).
Own data: --config.data.train=pairs.csv --config.data.validation= --config.data.test= with
text_field, pair_field, label_field and positive_label ("" with --config.metric=accuracy); what is
left empty is cut from the training rows by text hash.
"""

from ml_collections import ConfigDict

from configs import finetune_sentiment


def get_config(arg: str = "") -> ConfigDict:
    """The config; `arg` is "" or "tiny"."""
    config = finetune_sentiment.get_config(arg)
    config.data.update(
        train="tfds:glue/mrpc",
        validation="tfds:glue/mrpc:validation",
        text_field="sentence1",
        pair_field="sentence2",
        positive_label="equivalent",
    )
    config.metric = "f1"
    return config
