"""BERT-Base pretraining: 12 layers, width 768, batch 256, 1 M steps, Adam 5e-5.

    python -m bert_jax.pretrain --config=configs/pretrain_base.py --workdir=runs/base \
        --config.data=runs/data

110,106,428 parameters with heads and 30,522 pieces. Devlin et al. (arXiv:1810.04805)
trained it in 4 days on 16 TPU chips, with AdamW at 1e-4. `:tiny` is the same run cut
down to seconds on a laptop, for trying things out.
"""

from ml_collections import ConfigDict


def get_config(arg: str = "") -> ConfigDict:
    """The config; `arg` is "" or "tiny"."""
    config = ConfigDict()
    config.task = "pretrain"
    config.data = ""
    config.init_from = "none"
    config.model = ConfigDict(
        dict(
            vocab_size=0,
            positions=512,
            segment_types=2,
            width=768,
            layers=12,
            heads=12,
            feed_forward=3072,
            gelu="erf",
            layer_norm_epsilon=1e-12,
            init_stddev=0.02,
            dropout=0.1,
            attention_dropout=0.1,
            attention="auto",
            compute_dtype="bfloat16",
            remat="none",
            scan_layers=False,
        )
    )
    config.masking = ConfigDict(
        dict(
            unit="token",
            span_words=3,
            rate=0.15,
            max_predictions=80,
            mask_share=0.8,
            random_share=0.1,
            random_special=True,
        )
    )
    config.optimizer = ConfigDict(
        dict(
            name="adam",
            learning_rate=5e-5,
            schedule="linear",
            warmup_fraction=0.01,
            decay_fraction=0.1,
            b1=0.9,
            b2=0.999,
            epsilon=1e-8,
            bias_correction=True,
            weight_decay=0.0,
            not_decayed=r"(bias|scale)$",
            clip_norm=1.0,
        )
    )
    config.mesh = ConfigDict(dict(data=-1, fsdp=1, tensor=1))
    config.batch_size = 256
    config.microbatches = 1
    config.steps = 1_000_000
    config.then = ()
    config.budget_minutes = 0.0
    config.max_skipped = 10
    config.log_every = 100
    config.eval_every = 10_000
    config.eval_batches = 40
    config.save_every = 5_000
    config.keep = 3
    config.profile_start = 0
    config.profile_steps = 5
    config.prng = "threefry2x32"
    config.seed = 0
    if arg == "tiny":
        config.model.update(width=32, layers=2, heads=2, feed_forward=64, compute_dtype="float32")
        config.masking.max_predictions = 20
        config.optimizer.update(learning_rate=1e-3, warmup_fraction=0.1)
        config.update(batch_size=16, steps=20, log_every=5, eval_every=10, save_every=10)
        config.eval_batches = 2
    elif arg:
        raise ValueError(f"there is no variant {arg!r}; there is tiny.")
    return config


def resized(arg: str, **sizes: int) -> ConfigDict:
    """The config with a model of other sizes; `tiny` keeps its own."""
    config = get_config(arg)
    if not arg:
        config.model.update(sizes)
    return config
