"""The quickstart's pretraining data: statutes once, reviews six times over.

    python -m bert_jax.prepare --config=configs/prepare_quickstart.py \
        --workdir=runs/quickstart/data

The reviews are a third of the text and the domain of the task that follows; more passes
over them are worth more than more statutes.
"""

from ml_collections import ConfigDict

from configs import prepare_zh


def get_config(arg: str = "") -> ConfigDict:
    """The config; `arg` is "" or "tiny"."""
    config = prepare_zh.get_config(arg)
    if not arg:
        config.instances.passes = (1, 6)
    return config
