"""CLUE (arXiv:2004.05986): one of its seven tasks of classes, by accuracy.

    python -m bert_jax.finetune --config=configs/finetune_clue.py:tnews \
        --workdir=runs/tnews --config.init_from=runs/bert --config.seeds=5
    python -m bert_jax.evaluate --config=configs/finetune_clue.py:tnews \
        --workdir=runs/tnews/seed_0 --config.submit=True

The tasks are afqmc, tnews, iflytek, cmnli, ocnli, wsc and csl; `:tnews,tiny` is one cut down. Each
is read from its official archive, unpacked into a folder of its name under clue/ (`unzip
tnews_public.zip -d clue/tnews_public`, and so clue/tnews_public/train.json); for another place set
data.train, data.validation, data.test and submissions[0].rows. The test rows have no public
labels, so `evaluate` reports on the development rows, which chose the checkpoint too;
`--config.submit=True` writes the answers to the test rows beside it (tnews11_predict.json and so
on), as cluebenchmarks.com takes them for CLUE 1.1.

Published: BERT-base, the average over the classification tasks, 68.77 (CLUE's table, on the
test rows). Lengths, batches, rates and epochs of afqmc, iflytek, wsc and csl are those of CLUE's
own baselines (baselines/models/bert), as are what becomes of wsc's spans and csl's keywords,
and that rows labelled `-` are left out.
"""

from ml_collections import ConfigDict

from configs import finetune_sentiment

SENTENCES = ("sentence1", "sentence2")
# Archive, file of the training rows, fields, form, file of the submission.
TASKS = {
    "afqmc": ("afqmc", "train", SENTENCES, "plain", "afqmc"),
    "tnews": ("tnews", "train", ("sentence", ""), "plain", "tnews11"),
    "iflytek": ("iflytek", "train", ("sentence", ""), "plain", "iflytek"),
    "cmnli": ("cmnli", "train", SENTENCES, "agreed", "cmnli"),
    "ocnli": ("ocnli", "train.50k", SENTENCES, "agreed", "ocnli_50k"),
    "wsc": ("cluewsc2020", "train", ("text", ""), "cluewsc", "cluewsc11"),
    "csl": ("csl", "train", ("keyword", "abst"), "csl", "csl"),
}
# max_length, batch_size, rate, epochs, where they are not those of finetune_sentiment.py.
RECIPES = {
    "afqmc": (128, 16, 3e-5, 2),
    "wsc": (128, 8, 2e-5, 50),
    "csl": (256, 4, 1e-5, 3),
}


def get_config(arg: str = "") -> ConfigDict:
    """The config; `arg` is "" (the same as "afqmc"), "tiny", "TASK" or "TASK,tiny"."""
    name, _, variant = arg.partition(",")
    if name in ("", "tiny"):
        name, variant = "afqmc", name
    if name not in TASKS:
        raise ValueError(f"no variant {arg!r}: choose one of {', '.join(TASKS)}")
    config = finetune_sentiment.get_config(variant)
    archive, train, (text, pair), form, file = TASKS[name]
    folder = f"clue/{archive}_public"
    config.data.update(
        train=f"{folder}/{train}.json",
        validation=f"{folder}/dev.json",
        test=f"{folder}/dev.json",
        text_field=text,
        pair_field=pair,
        form=form,
    )
    config.submissions = (
        ConfigDict(
            dict(rows=f"{folder}/test.json", file=f"{file}_predict.json", form="clue", written=())
        ),
    )
    if name in RECIPES and not variant:
        length, batch_size, rate, epochs = RECIPES[name]
        config.update(max_length=length, batch_size=batch_size, epochs=epochs)
        config.optimizer.learning_rate = rate
    return config
