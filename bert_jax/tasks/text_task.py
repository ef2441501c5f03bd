"""What is asked of a whole text or pair of texts: the part that such tasks share."""

import abc
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from bert_jax.config import ModelConfig
from bert_jax.data.encoding import (
    PAIR_SPECIAL,
    SINGLE_SPECIAL,
    Encoding,
    cut_pair,
    pad_tokens,
    pair,
    single,
    whole_lengths,
    windows,
)
from bert_jax.errors import InputError, listed
from bert_jax.model.bert import ClassifyModel
from bert_jax.tasks.task import Encoded, Task, Text
from bert_jax.text.labelled import Label, LabelledText


class Example(NamedTuple):
    """A text, or a window of it."""

    tokens: Encoding
    row: int  # the index of its row
    target: Any  # the label as a number or numbers
    weight: float

    @property
    def length(self) -> int:
        """In tokens."""
        return len(self.tokens.ids)


class TextTask(Task):
    """A row is a LabelledText; an answer is the mean over the windows of a long text."""

    BATCH: ClassVar[Any]  # of tokens, targets and weights

    @abc.abstractmethod
    def target(self, row: LabelledText) -> Any:
        """The label as a number or numbers."""

    @abc.abstractmethod
    def no_targets(self, rows: int) -> np.ndarray:
        """Those of examples that fill up a batch."""

    def encode(self, rows: Sequence[LabelledText]) -> Encoded:
        """Of a pair that is too long the longer text is cut, never put into windows."""
        texts = self.tokenizer.encode_batch([row.text for row in rows])
        pairs = self.tokenizer.encode_batch([row.pair for row in rows])
        encoded = Encoded([], {})
        for number, (row, a, b) in enumerate(zip(rows, texts, pairs, strict=True)):
            target = self.target(row)
            if row.pair:
                needed = len(a) + len(b) + PAIR_SPECIAL
                kept_a, kept_b = cut_pair(len(a), len(b), self.max_length - PAIR_SPECIAL)
                parts = [pair(a[:kept_a], b[:kept_b], self.tokenizer)]
            else:
                needed = len(a) + SINGLE_SPECIAL
                found = windows(len(a), self.max_length - SINGLE_SPECIAL, self.overlap)
                found = found if self.overlap else found[:1]
                parts = [single(a[start:end], self.tokenizer) for start, end in found]
            encoded.examples.extend(Example(part, number, target, 1.0) for part in parts)
            if needed > self.max_length and len(parts) == 1:
                encoded.cut[number] = needed
        return encoded

    def batch(self, examples: Sequence[Example], rows: int, length: int) -> Any:
        """As BATCH."""
        targets, weights = self.no_targets(rows), np.zeros(rows, np.float32)
        for place, example in enumerate(examples):
            targets[place] = example.target
            weights[place] = example.weight
        encodings = [example.tokens for example in examples]
        tokens = pad_tokens(encodings, rows, length, self.tokenizer.special.pad)
        return self.BATCH(tokens, targets, weights)

    def model(self, config: ModelConfig, mesh: Any) -> ClassifyModel:
        """A logit or value for each label."""
        return ClassifyModel(config, len(self.labels), mesh)

    def answers(
        self,
        rows: Sequence[LabelledText],
        examples: Sequence[Example],
        predictions: Sequence[Any],
    ) -> list[Any]:
        """The mean over the windows of each text."""
        of_row: list[list[Any]] = [[] for _ in rows]
        for example, prediction in zip(examples, predictions, strict=True):
            of_row[example.row].append(prediction)
        return [np.mean(found, axis=0) for found in of_row]

    def lengths(self, rows: Sequence[LabelledText], encoded: Encoded) -> np.ndarray:
        """Tokens of every row before anything is cut, special ones included."""
        parts = [(example.row, example.length) for example in encoded.examples]
        return whole_lengths(parts, encoded.cut, len(rows), self.overlap)

    def row_of(self, text: Text) -> LabelledText:
        """With a label that the task admits."""
        return LabelledText(text.text, text.pair, self.any_label(), text.where)

    @abc.abstractmethod
    def any_label(self) -> Label:
        """One that `target` takes."""

    @staticmethod
    def said(row: LabelledText) -> dict[str, Any]:
        """What an answer begins with: the text, and the second one if there is one."""
        return {"text": row.text} | ({"pair": row.pair} if row.pair else {})


def index_of(label: str, labels: Sequence[str], where: str) -> int:
    """Its place among the labels; InputError where it is none of them."""
    if label not in labels:
        raise InputError(
            f"{where}: label {label!r} was never seen in training"
            f" (known: {listed(labels)}); correct it or leave the row out."
        )
    return labels.index(label)
