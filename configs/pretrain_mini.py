"""BERT-Mini pretraining: 4 layers, width 256, 4 heads; the rest as in Base.

11,267,900 parameters with heads and 30,522 pieces (sizes: arXiv:1908.08962).

    python -m bert_jax.pretrain --config=configs/pretrain_mini.py --workdir=runs/mini \
        --config.data=runs/data
"""

from ml_collections import ConfigDict

from configs import pretrain_base


def get_config(arg: str = "") -> ConfigDict:
    """The config; `arg` is "" or "tiny"."""
    return pretrain_base.resized(arg, width=256, layers=4, heads=4, feed_forward=1024)
