"""BERT-Medium pretraining: 8 layers, width 512, 8 heads; the rest as in Base.

41,668,412 parameters with heads and 30,522 pieces (sizes: arXiv:1908.08962).

    python -m bert_jax.pretrain --config=configs/pretrain_medium.py --workdir=runs/medium \
        --config.data=runs/data
"""

from ml_collections import ConfigDict

from configs import pretrain_base


def get_config(arg: str = "") -> ConfigDict:
    """The config; `arg` is "" or "tiny"."""
    return pretrain_base.resized(arg, width=512, layers=8, heads=8, feed_forward=2048)
