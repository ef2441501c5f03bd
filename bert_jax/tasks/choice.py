"""Multiple choice: which of several texts goes with a context and a question (SWAG, RACE)."""

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from bert_jax.arrays import ChoiceBatch
from bert_jax.config import ModelConfig
from bert_jax.data.encoding import PAIR_SPECIAL, Encoding, cut_pair, pad_tokens, pair
from bert_jax.finetune_config import LabelledDataConfig
from bert_jax.model.bert import ClassifyModel
from bert_jax.tasks.calibration import BINS, expected_error, reliability
from bert_jax.tasks.evaluation_report import Section
from bert_jax.tasks.scores import LEAST
from bert_jax.tasks.task import Encoded, Task, Text
from bert_jax.text.choices import ChoiceText, check_choices, read_choices, split_by_context
from bert_jax.training.losses import accuracy, cross_entropy
from bert_jax.training.metrics import Mean

NOT_THERE = Encoding(np.zeros(0, np.int32), 0)
IMPOSSIBLE = -1e9  # the logit of a choice that a row has not; infinity would make 0 x inf


class Example(NamedTuple):
    """A row, which takes as many rows of tokens as it has choices."""

    tokens: list[Encoding]
    row: int
    target: int
    most: int  # choices that a row of the set has: one number for all batches

    @property
    def length(self) -> int:
        """In tokens, of the longest choice."""
        return max(len(one.ids) for one in self.tokens)


class Choice(Task):
    """`[CLS] context [SEP] question choice [SEP]` gives a logit for each choice; an answer is
    the probability of each."""

    METRICS: ClassVar = {"accuracy": True, "loss": False}
    HAS_CHOICES = True

    @staticmethod
    def read(source: str, data: LabelledDataConfig) -> list[ChoiceText]:
        """The label is the number of the right choice."""
        return read_choices(source, data)

    @staticmethod
    def split(rows: Sequence[ChoiceText]) -> dict[str, list[ChoiceText]]:
        """All questions of a context are on one side."""
        return split_by_context(rows)

    @staticmethod
    def find_labels(rows: Sequence[ChoiceText], data: LabelledDataConfig) -> tuple[str, ...]:
        """One output, however many choices there are."""
        del rows, data
        return ("choice",)

    def encode(self, rows: Sequence[ChoiceText]) -> Encoded:
        """Where a choice does not fit, the longer of its two sides is cut."""
        texts = self.tokenizer.encode_batch([row.text for row in rows])
        questions = self.tokenizer.encode_batch([row.pair for row in rows])
        flat = iter(self.tokenizer.encode_batch([one for row in rows for one in row.choices]))
        encoded, most = Encoded([], {}), max((len(row.choices) for row in rows), default=0)
        for number, (row, a, question) in enumerate(zip(rows, texts, questions, strict=True)):
            parts, longest = [], 0
            for _ in row.choices:
                b = [*question, *next(flat)]
                kept_a, kept_b = cut_pair(len(a), len(b), self.max_length - PAIR_SPECIAL)
                parts.append(pair(a[:kept_a], b[:kept_b], self.tokenizer))
                longest = max(longest, len(a) + len(b) + PAIR_SPECIAL)
            encoded.examples.append(Example(parts, number, row.label, most))
            if longest > self.max_length:
                encoded.cut[number] = longest
        return encoded

    def batch(self, examples: Sequence[Example], rows: int, length: int) -> ChoiceBatch:
        """As many choices for each row as the row of the set with most of them has."""
        choices = max(example.most for example in examples)
        labels, weights = np.zeros(rows, np.int32), np.zeros(rows, np.float32)
        is_choice = np.zeros((rows, choices), np.float32)
        encodings: list[Encoding] = []
        for place, example in enumerate(examples):
            there = len(example.tokens)
            labels[place], weights[place] = example.target, 1
            is_choice[place, :there] = 1
            encodings += [*example.tokens, *[NOT_THERE] * (choices - there)]
        pad = self.tokenizer.special.pad
        tokens = pad_tokens(encodings, rows * choices, length, pad)
        return ChoiceBatch(tokens, labels, is_choice, weights)

    def model(self, config: ModelConfig, mesh: Any) -> ClassifyModel:
        """A logit for each choice of a row."""
        return ClassifyModel(config, 1, mesh)

    def losses(
        self, outputs: Float[Array, "N 1"], batch: ChoiceBatch
    ) -> tuple[dict[str, Mean], dict[str, Mean]]:
        """Cross-entropy over the choices of each row, and the share that is right."""
        rated = (_logits(outputs, batch), batch.labels, batch.weights)
        return {"loss": cross_entropy(*rated)}, {"accuracy": accuracy(*rated)}

    def predictions(self, outputs: Float[Array, "N 1"], batch: ChoiceBatch) -> Float[Array, "B C"]:
        """Probabilities."""
        return jax.nn.softmax(_logits(outputs, batch), axis=-1)

    def answers(
        self,
        rows: Sequence[ChoiceText],
        examples: Sequence[Example],
        predictions: Sequence[np.ndarray],
    ) -> list[np.ndarray]:
        """Without the choices that a row has not."""
        found: list[np.ndarray] = [np.zeros(0)] * len(rows)
        for example, prediction in zip(examples, predictions, strict=True):
            found[example.row] = prediction[: len(example.tokens)]
        return found

    def score(
        self, rows: Sequence[ChoiceText], answers: Sequence[np.ndarray], data: LabelledDataConfig
    ) -> dict[str, float]:
        """The share of rows that are right, and the mean cross-entropy in nats."""
        del data
        likelihood = [answer[row.label] for row, answer in zip(rows, answers, strict=True)]
        return {
            "accuracy": float(_is_right(rows, answers).mean()),
            "loss": float(-np.log(np.maximum(likelihood, LEAST)).mean()),
        }

    def blind(self, known: Sequence[ChoiceText], rows: Sequence[ChoiceText]) -> list[np.ndarray]:
        """How often each place among the choices is right."""
        most = max(len(row.choices) for row in (*known, *rows))
        # One more of each, so that there is something for a place that was never right.
        counts = np.bincount([row.label for row in known], minlength=most) + 1.0
        shares = [counts[: len(row.choices)] for row in rows]
        return [share / share.sum() for share in shares]

    def details(self, rows: Sequence[ChoiceText], answers: Sequence[np.ndarray]) -> dict[str, Any]:
        """The expected calibration error."""
        confidences = np.array([answer.max() for answer in answers])
        bins = reliability(confidences, _is_right(rows, answers), BINS)
        return {"calibration_error": expected_error(bins)}

    def findings(
        self,
        rows: Sequence[ChoiceText],
        encoded: Encoded,
        answers: Sequence[np.ndarray],
        data: LabelledDataConfig,
    ) -> list[Section]:
        """Calibration, the worst mistakes, accuracy by length."""
        from bert_jax.tasks import findings  # draws, which a prediction need not wait for

        del data
        confidences = np.array([answer.max() for answer in answers])
        is_right = _is_right(rows, answers)
        lengths = np.array([example.length for example in encoded.examples])
        for row, tokens in encoded.cut.items():
            lengths[row] = tokens
        return [
            *findings.calibration(confidences, is_right),
            findings.most_confident_mistakes(
                rows,
                confidences,
                is_right,
                lambda n: (rows[n].choices[rows[n].label], rows[n].choices[answers[n].argmax()]),
            ),
            findings.by_length(lengths, is_right),
        ]

    def row_of(self, text: Text) -> ChoiceText:
        """Raises InputError where there is nothing to choose from."""
        check_choices(text.choices, text.where)
        return ChoiceText(text.text, text.pair, text.choices, 0, text.where)

    def shown(self, row: ChoiceText, answer: np.ndarray) -> dict[str, Any]:
        """The likeliest choice, its number from 0, and the probability of each."""
        chosen = int(answer.argmax())
        return {
            "text": row.text,
            **({"pair": row.pair} if row.pair else {}),
            "choice": row.choices[chosen],
            "number": chosen,
            "probabilities": answer.tolist(),
        }


def _logits(outputs: Float[Array, "N 1"], batch: ChoiceBatch) -> Float[Array, "B C"]:
    logits = outputs.astype(jnp.float32).reshape(batch.is_choice.shape)
    return jnp.where(batch.is_choice > 0, logits, IMPOSSIBLE)


def _is_right(rows: Sequence[ChoiceText], answers: Sequence[np.ndarray]) -> np.ndarray:
    return np.array([a.argmax() == row.label for row, a in zip(rows, answers, strict=True)])
