"""Chinese and English pretraining data from packages: all the prose they have, 58 MB.

    python -m bert_jax.prepare --config=configs/prepare_bilingual.py --workdir=runs/data

The sources of prepare_chinese.py and prepare_english.py, once each, in rows of 512 tokens
with one vocabulary of 30,000 pieces.
"""

from ml_collections import ConfigDict

from configs import prepare_chinese, prepare_english, prepare_zh


def get_config(arg: str = "") -> ConfigDict:
    """The config; `arg` is "" or "tiny"."""
    config = prepare_zh.get_config(arg)
    both = (prepare_chinese, prepare_english)
    config.sources = tuple(source for one in both for source in one.get_config().sources)
    if not arg:
        config.tokenizer.vocab_size = 30_000
        config.instances.update(length=512, passes=(1,))
    return config
