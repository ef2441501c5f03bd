"""BERT-Large in two phases with LAMB and huge batches: NVIDIA's recipe (DeepLearningExamples).

    python -m bert_jax.pretrain --config=configs/pretrain_large_lamb.py \
        --workdir=runs/large_lamb --config.data=runs/data128 \
        '--config.then[0].data=runs/data512'

runs/data128 and runs/data512 are preparations of the same text with
--config.instances.length=128 and 512.

Phase 1 is 7,038 updates of 65,536 rows of 128 tokens at 6e-3, phase 2 1,563 of 32,768 rows
of 512 at 4e-3; warm-up 28.43 % and 12.8 % of each. LAMB is You et al.'s
(arXiv:1904.00962). NVIDIA lets the rate fall as the square root of what is left; here it
falls straight, which is lower all the way down: a run of ours has not been held against
theirs. At the 580 and 210 rows a second NVIDIA has from each A100, eight take 28 and 8
hours. The microbatches leave 131,072 tokens at a time over all devices.
"""

from ml_collections import ConfigDict

from configs import pretrain_base


def get_config(arg: str = "") -> ConfigDict:
    """The config; `arg` is "" or "tiny"."""
    config = pretrain_base.resized(arg, width=1024, layers=24, heads=16, feed_forward=4096)
    config.optimizer.update(name="lamb", epsilon=1e-6, weight_decay=0.01)
    second = dict(data="", max_predictions=20, learning_rate=1e-3, warmup_fraction=0.1)
    if arg:
        second.update(steps=10, batch_size=8, microbatches=2)
    else:
        config.optimizer.update(learning_rate=6e-3, warmup_fraction=0.2843)
        config.masking.max_predictions = 20
        config.update(batch_size=65_536, microbatches=64, steps=7_038)
        config.update(log_every=10, eval_every=500, save_every=100)
        second.update(steps=1_563, batch_size=32_768, microbatches=128)
        second.update(max_predictions=80, learning_rate=4e-3, warmup_fraction=0.128)
    config.then = (ConfigDict(second),)
    return config
