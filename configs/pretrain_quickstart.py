"""A small Chinese BERT for the quickstart: 6 to 8 minutes on two CPU cores.

    python -m bert_jax.pretrain --config=configs/pretrain_quickstart.py \
        --workdir=runs/quickstart/pretrain --config.data=runs/quickstart/data

6,000 updates of 1,024 tokens. With minutes to spend, updates are worth more than size or
batch. At this depth and width a rate of 4e-3 falls apart, 2e-3 does not; b2 0.98 ends
0.06 nats worse than 0.999 after 2,000 steps. No dropout: hardly a text is seen ten times.
The tanh form of GELU takes half the time of the exact one on a CPU.
"""

from ml_collections import ConfigDict

from configs import pretrain_base


def get_config(arg: str = "") -> ConfigDict:
    """The config; `arg` is "" or "tiny"."""
    config = pretrain_base.get_config(arg)
    if arg:
        return config
    config.model.update(
        positions=128,
        width=128,
        layers=2,
        heads=2,
        feed_forward=512,
        gelu="tanh",
        init_stddev=0.05,
        dropout=0.0,
        attention_dropout=0.0,
        compute_dtype="float32",
    )
    config.masking.max_predictions = 24
    config.optimizer.update(learning_rate=2e-3, warmup_fraction=0.06, weight_decay=0.01)
    config.update(batch_size=8, steps=6000, log_every=50, eval_every=500, save_every=1000)
    config.eval_batches = 0
    config.keep = 1
    return config
