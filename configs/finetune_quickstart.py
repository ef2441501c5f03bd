"""Sentiment with the quickstart's small model, which wants a rate 50 times that of Base.

    python -m bert_jax.finetune --config=configs/finetune_quickstart.py \
        --workdir=runs/quickstart/sentiment --config.init_from=runs/quickstart/pretrain
"""

from ml_collections import ConfigDict

from configs import finetune_sentiment, pretrain_quickstart


def get_config(arg: str = "") -> ConfigDict:
    """The config; `arg` is "" or "tiny"."""
    config = finetune_sentiment.get_config(arg)
    if arg:
        return config
    config.model = pretrain_quickstart.get_config().model
    config.model.update(dropout=0.1, attention_dropout=0.1)
    config.optimizer.learning_rate = 1e-3
    config.update(epochs=3, evals_per_epoch=2, patience=4)
    return config
