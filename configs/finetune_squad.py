"""SQuAD 1.1, or 2.0 with `:2.0`: where in a text the answer to a question stands, or nowhere.

    python -m bert_jax.finetune --config=configs/finetune_squad.py:2.0 \
        --workdir=runs/squad2 --config.init_from=runs/base

bert-base-uncased reaches 81.2 % exact match and 88.5 % F1 on the development set of 1.1 with
these settings, as Hugging Face publishes for its run_qa.py, which neither warms up nor decays
weights, as google-research/bert does (0.1 and 0.01). Its stride is the overlap here; doc_stride of
google-research/bert is the step from window to window instead. Own data:
--config.data.train=train-v2.0.json --config.data.validation=dev-v2.0.json
--config.data.test=dev-v2.0.json, or .jsonl with text_field, pair_field and label_field; what is
left empty is cut from the training rows by context. `evaluate` leaves predictions.json for the
official script.
"""

from ml_collections import ConfigDict

from configs import finetune_sentiment

VERSIONS = ("1.1", "2.0")
VARIANTS = (*VERSIONS, "tiny")


def get_config(arg: str = "") -> ConfigDict:
    """The config; `arg` is "" or "1.1", "2.0" or "tiny"."""
    if arg and arg not in VARIANTS:
        raise ValueError(f"no variant {arg!r}: choose one of {', '.join(VARIANTS)}")
    config = finetune_sentiment.get_config("" if arg in VERSIONS else arg)
    source = f"tfds:squad/v{arg if arg in VERSIONS else VERSIONS[0]}"
    config.task = "span"
    config.data.update(
        train=source,
        validation=f"{source}:validation",
        test=f"{source}:validation",
        text_field="context",
        pair_field="question",
        label_field="answers",
        id_field="id",
    )
    config.update(metric="f1", evals_per_epoch=1)
    if arg == "tiny":
        config.window_overlap = 8
        return config
    config.optimizer.update(learning_rate=3e-5, warmup_fraction=0.0, weight_decay=0.0)
    config.update(batch_size=12, max_length=384, window_overlap=128, epochs=2)
    return config
