"""Wikipedia of June 2023 through TFDS, Chinese (zh, the default) or English (en).

    pip install apache-beam mwparserfromhell mwxml
    python -m bert_jax.prepare --config=configs/prepare_wikipedia.py:en --workdir=runs/data

TFDS downloads the dump and parses it with Beam, once, into ~/tensorflow_datasets: hours and
tens of gigabytes. A vocabulary and case as in prepare_chinese.py and prepare_english.py.
"""

from ml_collections import ConfigDict

from configs import prepare_chinese, prepare_english

SHARDS = {"zh": 256, "en": 1024}  # about 20 MB of text in each


def get_config(arg: str = "") -> ConfigDict:
    """The config; `arg` is "" or "zh", "en", or "tiny" (few Chinese articles)."""
    language = arg if arg in SHARDS else "zh"
    base = prepare_english if language == "en" else prepare_chinese
    config = base.get_config("" if arg in SHARDS else arg)
    config.sources = (f"tfds:wikipedia/20230601.{language}",)
    if arg != "tiny":
        config.instances.passes = (1,)
        config.shards = SHARDS[language]
    return config
