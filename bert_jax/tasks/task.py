"""What fine-tuning, evaluation and prediction must know of a task, and all they know of it."""

import abc
import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from jaxtyping import Array, Float, PyTree

from bert_jax.config import ModelConfig
from bert_jax.errors import InputError
from bert_jax.finetune_config import FinetuneConfig, LabelledDataConfig
from bert_jax.tasks.evaluation_report import Section
from bert_jax.text.labelled import clean_split
from bert_jax.text.tokenizer import Tokenizer
from bert_jax.training.metrics import Mean


class Text(NamedTuple):
    """What `predict` is asked about."""

    text: str
    pair: str  # "" = there is none
    where: str  # for messages: a file and line, say
    choices: tuple[str, ...] = ()  # for a task that chooses


class Encoded(NamedTuple):
    """Rows as the model reads them."""

    examples: list[Any]  # each with `length`, in tokens
    cut: dict[int, int]  # of the rows that were cut, by index: how many tokens they have


@dataclasses.dataclass(frozen=True)
class Task(abc.ABC):
    """One kind of question put to texts. An object is a task with what training has found.

    A row is a NamedTuple of JSON values as it was read, with its place in `where`. An example
    is what takes one place in a batch; a row may have several. A prediction is what the model
    says of an example, an answer what that comes to for a row.
    """

    labels: tuple[str, ...]  # the model has an output for each
    tokenizer: Tokenizer
    max_length: int
    overlap: int  # tokens that two windows of a long text share; 0 = long texts are cut

    # What `score` gives, and whether more of it is better. One of these is `config.metric`.
    METRICS: ClassVar[Mapping[str, bool]]
    FILES: ClassVar[tuple[str, ...]] = ()  # names of all that `files` may make
    HAS_CHOICES: ClassVar[bool] = False  # `Text.choices` is asked about

    @staticmethod
    @abc.abstractmethod
    def read(source: str, data: LabelledDataConfig) -> list[Any]:
        """All rows of a source."""

    @staticmethod
    def split(rows: Sequence[Any]) -> dict[str, list[Any]]:
        """Train, validation and test; nothing of one is to be known from another."""
        return clean_split(rows)

    @staticmethod
    @abc.abstractmethod
    def find_labels(rows: Sequence[Any], data: LabelledDataConfig) -> tuple[str, ...]:
        """`labels`, from the training rows and what else their source holds."""

    @staticmethod
    def labels_of(row: Any) -> Collection[str]:
        """Those that a row is marked with; none where `labels` are no classes."""
        del row
        return ()

    @classmethod
    def check(cls, config: FinetuneConfig) -> None:
        """Raises InputError where the config asks for what this task has not."""
        if config.metric not in cls.METRICS:
            raise InputError(
                f"config.metric={config.metric!r} is none of config.task={config.task}: choose"
                f" one of {', '.join(cls.METRICS)}."
            )
        if config.class_weights != "none" and cls.balanced is Task.balanced:
            raise InputError(
                f"config.class_weights={config.class_weights} is not for"
                f" config.task={config.task}: set it to none."
            )

    def check_data(self, data: LabelledDataConfig) -> None:
        """Raises InputError where a model with these labels cannot be scored as `data` says."""
        del data

    @abc.abstractmethod
    def encode(self, rows: Sequence[Any]) -> Encoded:
        """Raises InputError for a row whose label is none of `labels`."""

    def cut_of(self, row: Any, tokens: int) -> str:
        """What is too long about a row that `encode` has cut, for a message that it begins."""
        del row
        return too_long(tokens, self.max_length)

    def balanced(self, examples: Sequence[Any]) -> list[Any]:
        """The examples with other weights, for `config.class_weights`, which `check` refuses of
        a task that leaves this as it is."""
        return list(examples)

    @abc.abstractmethod
    def batch(self, examples: Sequence[Any], rows: int, length: int) -> PyTree:
        """A NamedTuple with `tokens`, a text in each row and padded to `length`, and `weights`,
        filled up to `rows` examples of weight 0. Where texts share rows `tokens` becomes
        PackedTokens."""

    @abc.abstractmethod
    def model(self, config: ModelConfig, mesh: Any) -> Any:
        """A flax module: Tokens or PackedTokens to outputs of each example.

        `reads` of it, where it has that, is how many tokens of an example its encoder is asked to
        `read`.
        """

    def weights(self, batch: Any) -> dict[str, Float[Array, ""]]:
        """What each loss will be divided by, from the batch alone."""
        return {"loss": batch.weights.sum()}

    @abc.abstractmethod
    def losses(self, outputs: PyTree, batch: Any) -> tuple[dict[str, Mean], dict[str, Mean]]:
        """What is minimised, and what is measured beside it."""

    def predictions(self, outputs: PyTree, batch: Any) -> PyTree:
        """What is kept of the outputs, an array or several with an entry for each example."""
        del batch
        return outputs

    @abc.abstractmethod
    def answers(
        self, rows: Sequence[Any], examples: Sequence[Any], predictions: Sequence[PyTree]
    ) -> list[Any]:
        """An answer for each row, from the predictions for its examples."""

    @abc.abstractmethod
    def score(
        self, rows: Sequence[Any], answers: Sequence[Any], data: LabelledDataConfig
    ) -> dict[str, float]:
        """The metrics. A row may be there several times."""

    @abc.abstractmethod
    def blind(self, known: Sequence[Any], rows: Sequence[Any]) -> list[Any]:
        """The answers of one who knows the rows `known` and reads nothing of `rows`."""

    def details(self, rows: Sequence[Any], answers: Sequence[Any]) -> dict[str, Any]:
        """What `evaluate` writes beside the metrics."""
        del rows, answers
        return {}

    def files(self, rows: Sequence[Any], answers: Sequence[Any]) -> dict[str, str]:
        """The text of files, by name, that `evaluate` writes beside its own."""
        del rows, answers
        return {}

    def findings(
        self,
        rows: Sequence[Any],
        encoded: Encoded,
        answers: Sequence[Any],
        data: LabelledDataConfig,
    ) -> list[Section]:
        """What `evaluate` puts into its report below the metrics."""
        del rows, encoded, answers, data
        return []

    def report(self, result: Mapping[str, Any]) -> list[str]:
        """The lines that `evaluate` prints below the metrics."""
        del result
        return []

    @abc.abstractmethod
    def row_of(self, text: Text) -> Any:
        """A row without a label that counts, for `predict`."""

    @abc.abstractmethod
    def shown(self, row: Any, answer: Any) -> dict[str, Any]:
        """The JSON object that `predict` prints."""


def too_long(tokens: int, max_length: int) -> str:
    """What a message says of a text, after its place."""
    return f"has {tokens} tokens and the model takes {max_length}"
