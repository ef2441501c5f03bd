"""Similarity, a number for a pair of sentences: STS-B of GLUE, from 0 to 5, by Spearman.

    python -m bert_jax.finetune --config=configs/finetune_regression.py \
        --workdir=runs/stsb --config.init_from=runs/base

BERT-Base has 85.8 on the test rows, whose labels are not public (arXiv:1810.04805, table 1).
Own data: --config.data.train=pairs.csv --config.data.validation= --config.data.test= with
text_field, pair_field ("" for single texts) and label_field; what is left empty is cut from the
training rows by text hash. Labels are learnt as they are: scale them to a size near 1 (prices to
units of their standard deviation, say), for at usual rates larger ones are not reached.
"""

from ml_collections import ConfigDict

from configs import finetune_sentiment


def get_config(arg: str = "") -> ConfigDict:
    """The config; `arg` is "" or "tiny"."""
    config = finetune_sentiment.get_config(arg)
    config.task = "regress"
    config.data.update(
        train="tfds:glue/stsb",
        validation="tfds:glue/stsb:validation",
        text_field="sentence1",
        pair_field="sentence2",
    )
    config.metric = "spearman"
    return config
