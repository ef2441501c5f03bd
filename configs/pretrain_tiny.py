"""BERT-Tiny pretraining: 2 layers, width 128, 2 heads; the rest as in Base.

4,433,468 parameters with heads and 30,522 pieces (sizes: arXiv:1908.08962).

    python -m bert_jax.pretrain --config=configs/pretrain_tiny.py --workdir=runs/tiny \
        --config.data=runs/data
"""

from ml_collections import ConfigDict

from configs import pretrain_base


def get_config(arg: str = "") -> ConfigDict:
    """The config; `arg` is "" or "tiny"."""
    return pretrain_base.resized(arg, width=128, layers=2, heads=2, feed_forward=512)
