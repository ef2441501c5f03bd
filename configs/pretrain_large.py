"""BERT-Large pretraining: 24 layers, width 1024, 16 heads; the rest as in Base.

336,226,108 parameters with heads and 30,522 pieces (sizes: arXiv:1810.04805).

    python -m bert_jax.pretrain --config=configs/pretrain_large.py --workdir=runs/large \
        --config.data=runs/data
"""

from ml_collections import ConfigDict

from configs import pretrain_base


def get_config(arg: str = "") -> ConfigDict:
    """The config; `arg` is "" or "tiny"."""
    return pretrain_base.resized(arg, width=1024, layers=24, heads=16, feed_forward=4096)
