"""Multiple choice, the ending that fits: SWAG (arXiv:1808.05326), by accuracy.

    python -m bert_jax.finetune --config=configs/finetune_choice.py \
        --workdir=runs/swag --config.init_from=runs/bert
    python -m bert_jax.evaluate --config=configs/finetune_choice.py --workdir=runs/swag

train.csv and val.csv are SWAG's own, under swag/. The rate, the batch and the epochs are those of
BERT's paper, by which BERT-base reaches 81.6 on the validation rows (arXiv:1810.04805, table 4).

Own data: --config.data.train=questions.jsonl --config.data.validation= --config.data.test=; what
is left empty is cut from the training rows by context. text_field is the context, pair_field the
question ("" = none), choice_fields=("name",) a list of choices or several names a field for each,
label_field the right one: its number from 0, its letter from A, or its text. RACE from TFDS (its
own .txt files are JSON, a file each: put them together as .jsonl):
data.train=tfds:race/high, data.validation=tfds:race/high:dev, data.test=tfds:race/high:test,
data.form=race, data.text_field=article, data.pair_field=question,
data.choice_fields="('choices',)", data.label_field=answer, and max_length=512.
"""

from ml_collections import ConfigDict

from configs import finetune_sentiment


def get_config(arg: str = "") -> ConfigDict:
    """The config; `arg` is "" or "tiny"."""
    config = finetune_sentiment.get_config(arg)
    config.task = "choice"
    config.data.update(
        train="swag/train.csv",
        validation="swag/val.csv",
        test="swag/val.csv",
        text_field="sent1",
        pair_field="sent2",
        choice_fields=tuple(f"ending{number}" for number in range(4)),
    )
    config.batch_size = 16
    return config
