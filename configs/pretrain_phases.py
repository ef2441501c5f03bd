"""BERT-Base as published: nine tenths of the steps at 128 tokens, the last tenth at 512.

    python -m bert_jax.pretrain --config=configs/pretrain_phases.py --workdir=runs/base \
        --config.data=runs/data128 '--config.then[0].data=runs/data512'

runs/data128 and runs/data512 are preparations of the same text with one vocabulary, the
second with --config.tokenizer.path=runs/data128/tokenizer. 900,000 steps of 256 rows of 128
tokens and 100,000 of 512, one schedule over both (arXiv:1810.04805, appendix A.2); by the
arithmetic alone 0.31 of the time that all steps at 512 take.
"""

from ml_collections import ConfigDict

from configs import pretrain_base


def get_config(arg: str = "") -> ConfigDict:
    """The config; `arg` is "" or "tiny"."""
    config = pretrain_base.get_config(arg)
    second = dict(learning_rate=0.0, warmup_fraction=0.0, microbatches=1, data="")
    if arg:
        second.update(steps=10, batch_size=8, max_predictions=20)
    else:
        config.steps = 900_000
        config.masking.max_predictions = 20
        second.update(steps=100_000, batch_size=256, max_predictions=80)
    config.then = (ConfigDict(second),)
    return config
