"""Wikipedia of June 2023 through TFDS, Chinese (zh, the default) or English (en).

    pip install apache-beam mwparserfromhell mwxml
    python -m bert_jax.prepare --config=configs/prepare_wikipedia.py:en --workdir=runs/data

TFDS downloads the dump and parses it with Beam, once, into ~/tensorflow_datasets: hours and
tens of gigabytes. A vocabulary and case as in prepare_chinese.py and prepare_english.py.
"""

from ml_collections import ConfigDict

from configs import prepare_chinese, prepare_english

LANGUAGES = {"zh": prepare_chinese, "en": prepare_english}


def get_config(arg: str = "") -> ConfigDict:
    """The config; `arg` is "" or "zh", "en", or "tiny" (few Chinese articles)."""
    language = arg if arg in LANGUAGES else "zh"
    config = LANGUAGES[language].get_config("" if arg in LANGUAGES else arg)
    config.sources = (f"tfds:wikipedia/20230601.{language}",)
    config.instances.passes = (1,)
    return config
