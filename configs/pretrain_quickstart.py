"""A small Chinese BERT for the quickstart: minutes on two CPU cores.

    python -m bert_jax.pretrain --config=configs/pretrain_quickstart.py \
        --workdir=runs/quickstart/pretrain --config.data=runs/quickstart/data
"""

from ml_collections import ConfigDict

from configs import pretrain_base


def get_config(arg: str = "") -> ConfigDict:
    """The config; `arg` is "" or "tiny"."""
    config = pretrain_base.get_config(arg)
    if arg:
        return config
    config.model.update(
        width=128,
        layers=2,
        heads=2,
        feed_forward=512,
        init_stddev=0.05,
        dropout=0.0,
        attention_dropout=0.0,
        compute_dtype="float32",
    )
    config.masking.max_predictions = 24
    config.optimizer.update(learning_rate=2e-3, warmup_fraction=0.06, weight_decay=0.01)
    config.update(batch_size=16, steps=5000, log_every=50, eval_every=500, save_every=1000)
    config.eval_batches = 20
    config.keep = 1
    return config
