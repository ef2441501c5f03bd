"""The frozen dataclasses of fine-tuning and evaluation; as those of bert_jax.config."""

import dataclasses

from bert_jax.config import MeshConfig, ModelConfig, OptimizerConfig
from bert_jax.errors import InputError
from bert_jax.fields import at_least, one_of, share


@dataclasses.dataclass(frozen=True)
class LabelledDataConfig:
    """Texts with labels. Empty `validation` and `test` are cut from `train` by text hash."""

    SECTION = "data."

    train: str  # see bert_jax.text.labelled
    validation: str
    test: str
    text_field: str
    pair_field: str  # the second text of a pair; "" = the texts are single
    label_field: str
    # The fields of .csv and .tsv files that have no header line, in order; () = they have one.
    columns: tuple[str, ...]
    label_separator: str  # between the labels of a text that has several
    id_field: str  # in which no two rows may say the same; "" = there is none
    positive_label: str  # the class whose F1 is wanted; "" = none
    # Of tagged words in columns: which hold the word and its tag; 0 is the first, -1 the last.
    token_column: int
    tag_column: int
    tag_pieces: str  # of a word that learn its tag: "first" or "all"; the first one answers
    # By whose script answers to questions are scored: "squad" goes by words, "cmrc" by Chinese
    # characters and the words between them.
    answer_rules: str
    answer_shift: int  # an answer may begin so many characters before its answer_start
    form: str  # "plain", or what a suite's records need: one of bert_jax.text.suites.FORMS
    # More rows that `evaluate` and the table of several seeds report on, each by itself.
    further_tests: tuple[str, ...]
    # Where a text has choices: the field with a list of them, or a field for each.
    choice_fields: tuple[str, ...]

    def __post_init__(self):
        one_of(self, "form", ("plain", "whole", "agreed", "csl", "cluewsc", "xnli_zh", "race"))
        one_of(self, "answer_rules", ("squad", "cmrc"))
        at_least(self, "answer_shift", 0)
        one_of(self, "tag_pieces", ("first", "all"))
        if self.token_column == self.tag_column:
            raise InputError(
                f"config.data.token_column and config.data.tag_column are both"
                f" {self.tag_column}: name two columns."
            )


@dataclasses.dataclass(frozen=True)
class SubmissionConfig:
    """Rows without labels, whose answers `evaluate` writes as a benchmark takes them."""

    SECTION = "submissions[...]."

    rows: str  # as data.test
    file: str  # its name in the workdir
    form: str  # "glue" (TSV of index and prediction) or "clue" (JSON lines of id and label)
    written: tuple[str, ...]  # LABEL=TEXT, what to write for a label; others as they are

    def __post_init__(self):
        one_of(self, "form", ("glue", "clue"))
        if not self.file or set(self.file) & set("/\\"):
            raise InputError(
                f"config.submissions[...].file={self.file!r} is no file name: give one without"
                " folders."
            )
        for pair in self.written:
            if "=" not in pair:
                raise InputError(
                    f"config.submissions[...].written holds {pair!r}: write LABEL=TEXT."
                )


@dataclasses.dataclass(frozen=True)
class FinetuneConfig:
    """A head on the encoder, trained on labelled texts."""

    task: str  # one of bert_jax.tasks.all_tasks
    init_from: str  # workdir of a run or of a converted model, or "none" for a fresh encoder
    tokenizer: str  # for init_from=none: a tokenizer directory; else ""
    data: LabelledDataConfig
    model: ModelConfig  # sizes are the checkpoint's; the dropouts and dtype are taken from here
    optimizer: OptimizerConfig
    mesh: MeshConfig
    batch_size: int
    max_length: int  # tokens; longer texts are cut, and the cut ones counted
    # Above 0 a longer text is not cut but goes into several windows that share so many tokens.
    window_overlap: int
    epochs: int
    freeze_embeddings: bool
    freeze_layers: int  # the lowest n stay as they are
    layer_decay: float  # of the rate, from each layer to the one below; 1 = none
    head_steps: int  # the first n updates leave the encoder as it is
    class_weights: str  # "none", or "balanced": rare classes count as much as frequent ones
    evals_per_epoch: int
    patience: int  # evaluations without a better metric before it stops; 0 = never
    metric: str  # one of the task's, on the validation split; chooses the best checkpoint
    max_skipped: int  # updates skipped in a row, for a loss or gradient not finite, end the run
    log_every: int
    prng: str
    seed: int
    seeds: int  # runs, with the seeds from `seed` on, each in a workdir of its own
    submissions: tuple[SubmissionConfig, ...]
    submit: bool  # `evaluate` writes the submissions

    def __post_init__(self):
        one_of(self, "prng", ("threefry2x32", "rbg"))
        one_of(self, "class_weights", ("none", "balanced"))
        for name in ("batch_size", "epochs", "evals_per_epoch", "max_skipped", "log_every"):
            at_least(self, name, 1)
        at_least(self, "seeds", 1)
        at_least(self, "max_length", 8)
        for name in ("freeze_layers", "patience", "window_overlap", "head_steps"):
            at_least(self, name, 0)
        share(self, "layer_decay")
        if self.window_overlap > self.max_length // 2:
            raise InputError(
                f"config.window_overlap={self.window_overlap} is more than half of"
                f" config.max_length={self.max_length}: lower it."
            )
        if not self.init_from:
            raise InputError(
                "config.init_from is empty: name a pretraining workdir, or none to start fresh."
            )
        if self.init_from == "none" and not self.tokenizer:
            raise InputError(
                "config.tokenizer is empty and config.init_from is none:"
                " name a tokenizer directory or vocab.txt."
            )
        if self.init_from != "none" and self.tokenizer:
            raise InputError(
                "config.tokenizer is set, but the tokenizer is that of config.init_from:"
                " leave it empty, or set config.init_from=none."
            )
