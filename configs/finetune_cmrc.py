"""CMRC2018, or DRCD with `:drcd`: answers that stand in Chinese texts, scored by characters.

    python -m bert_jax.finetune --config=configs/finetune_cmrc.py \
        --workdir=runs/cmrc --config.init_from=runs/base-zh

The files are looked for under their own names where the command runs; name others with
--config.data.train, .validation and .test. Chinese BERT-base, exact match / F1 as the best of
ten runs (their mean), published by Cui et al. (arXiv:1906.08101,
github.com/ymcui/Chinese-BERT-wwm): CMRC2018 development 65.5 (64.4) / 84.5 (84.0), test 70.0
(68.7) / 87.0 (86.3); DRCD test 82.2 / 89.2. Some answers begin before their answer_start; the
scripts that go with these corpora look for them up to three characters before.
"""

from ml_collections import ConfigDict

from configs import finetune_squad

# The test set of CMRC2018 is not published.
CORPORA = {
    "cmrc": dict(
        train="cmrc2018_train.json", validation="cmrc2018_dev.json", test="cmrc2018_dev.json"
    ),
    "drcd": dict(train="DRCD_training.json", validation="DRCD_dev.json", test="DRCD_test.json"),
}
VARIANTS = (*CORPORA, "tiny")


def get_config(arg: str = "") -> ConfigDict:
    """The config; `arg` is "" or "cmrc", "drcd" or "tiny"."""
    if arg and arg not in VARIANTS:
        raise ValueError(f"no variant {arg!r}: choose one of {', '.join(VARIANTS)}")
    config = finetune_squad.get_config("" if arg in CORPORA else arg)
    config.data.update(CORPORA.get(arg, CORPORA["cmrc"]))
    config.data.update(answer_rules="cmrc", answer_shift=3)
    if arg != "tiny":
        # As run_squad.py of google-research/bert has them.
        config.optimizer.update(warmup_fraction=0.1, weight_decay=0.01)
        config.update(batch_size=32, max_length=512)
    return config
