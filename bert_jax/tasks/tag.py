"""A tag for every word of a text: names of people and places, parts of speech."""

import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from bert_jax.arrays import TagBatch
from bert_jax.config import ModelConfig
from bert_jax.data.encoding import (
    SINGLE_SPECIAL,
    Encoding,
    pad_tokens,
    single,
    whole_lengths,
    windows,
)
from bert_jax.errors import InputError, listed
from bert_jax.finetune_config import FinetuneConfig, LabelledDataConfig
from bert_jax.model.bert import TagModel
from bert_jax.tasks import scores
from bert_jax.tasks.evaluation_report import NOT_DEFINED, Section
from bert_jax.tasks.task import Encoded, Task, Text
from bert_jax.text import tags as schemes
from bert_jax.text.conll import TaggedText, place_of, read_tagged
from bert_jax.text.labelled import LabelledText
from bert_jax.text.tags import OUTSIDE, PLAIN, Entity
from bert_jax.text.words import written_words
from bert_jax.training.losses import accuracy, cross_entropy
from bert_jax.training.metrics import Mean

NONE = -1  # for a label or a word where a token has none


class Example(NamedTuple):
    """A text, or a window of it."""

    tokens: Encoding
    row: int  # the index of its row
    labels: Int[np.ndarray, "T"]  # what each token learns, or NONE
    words: Int[np.ndarray, "T"]  # the word whose first piece each token is, or NONE

    @property
    def length(self) -> int:
        """In tokens."""
        return len(self.tokens.ids)


class Prediction(NamedTuple):
    """For every token of an example, or of a batch of them."""

    tags: Int[Any, "*B T"]  # the most probable
    probabilities: Float[Any, "*B T"]  # of that one


class Answer(NamedTuple):
    """For every word of a row."""

    tags: tuple[str, ...]
    probabilities: Float[np.ndarray, "n"]


class TagWords(Task):
    """A row is a TaggedText; the first piece of each word answers for it.

    Words without a piece, such as control characters, are outside of every entity.
    """

    METRICS: ClassVar = {"f1": True, "precision": True, "recall": True, "accuracy": True}

    @staticmethod
    def read(source: str, data: LabelledDataConfig) -> list[TaggedText]:
        """Columns or lists."""
        return read_tagged(source, data)

    @staticmethod
    def find_labels(rows: Sequence[TaggedText], data: LabelledDataConfig) -> tuple[str, ...]:
        """Raises InputError for a tag outside of the scheme of the others, or a lonely one."""
        seen = {tag for row in rows for tag in row.tags}
        if strange := schemes.in_another_form(seen):
            raise InputError(
                f"{data.train} has the tag {strange!r}, and entities are read from tags such as"
                " B-PER: write them so."
            )
        labels = schemes.complete(seen)
        if len(labels) < 2:
            raise InputError(f"{data.train} has the one tag {min(seen)!r}: two are needed.")
        if not seen <= set(labels):
            row = next(row for row in rows if not set(labels).issuperset(row.tags))
            _refuse(row, labels)
        return labels

    @staticmethod
    def labels_of(row: TaggedText) -> tuple[str, ...]:
        """One a word."""
        return row.tags

    @classmethod
    def check(cls, config: FinetuneConfig) -> None:
        """Words are those of one text."""
        super().check(config)
        if config.data.pair_field:
            raise InputError(
                f"config.data.pair_field={config.data.pair_field} is for pairs, and"
                f" config.task={config.task} takes single texts: leave it empty."
            )

    def encode(self, rows: Sequence[TaggedText]) -> Encoded:
        """Each word by itself, so that no piece goes over two."""
        of_word = self._pieces({word for row in rows for word in row.words})
        number = {label: n for n, label in enumerate(self.labels)}
        others = {tag: number[schemes.inside(tag, self.labels)] for tag in self.labels}
        room = self.max_length - SINGLE_SPECIAL
        encoded = Encoded([], {})
        for index, row in enumerate(rows):
            if not number.keys() >= set(row.tags):
                _refuse(row, self.labels)
            ids, labels, words = [], [], []
            for place, (word, tag) in enumerate(zip(row.words, row.tags, strict=True)):
                pieces = of_word[word]
                more = len(pieces) - 1
                if pieces:
                    ids += pieces
                    labels += [number[tag], *[others[tag] if row.pieces == "all" else NONE] * more]
                    words += [place, *[NONE] * more]
            found = windows(len(ids), room, self.overlap)
            for start, end in found if self.overlap else found[:1]:
                part = slice(start, end)
                tokens = single(ids[part], self.tokenizer)
                ends = (_with_ends(labels[part]), _with_ends(words[part]))
                encoded.examples.append(Example(tokens, index, *ends))
            if len(found) > 1 and not self.overlap:
                encoded.cut[index] = len(ids) + SINGLE_SPECIAL
        return encoded

    def batch(self, examples: Sequence[Example], rows: int, length: int) -> TagBatch:
        """A weight of 1 for every token that learns a tag."""
        encodings = [example.tokens for example in examples]
        tokens = pad_tokens(encodings, rows, length, self.tokenizer.special.pad)
        labels = np.full(tokens.ids.shape, NONE, np.int32)
        for place, example in enumerate(examples):
            labels[place, : example.length] = example.labels
        return TagBatch(tokens, np.maximum(labels, 0), (labels != NONE).astype(np.float32))

    def model(self, config: ModelConfig, mesh: Any) -> TagModel:
        """A logit for each tag and token."""
        return TagModel(config, len(self.labels), mesh)

    def losses(
        self, outputs: Float[Array, "B T C"], batch: TagBatch
    ) -> tuple[dict[str, Mean], dict[str, Mean]]:
        """Cross-entropy, and the share that is right, of the pieces that bear a tag."""
        rated = (outputs, batch.labels, batch.weights)
        return {"loss": cross_entropy(*rated)}, {"accuracy": accuracy(*rated)}

    def predictions(self, outputs: Float[Array, "B T C"], batch: Any) -> Prediction:
        """The best tag of every token."""
        del batch
        best = jax.nn.softmax(outputs, axis=-1).max(axis=-1)
        return Prediction(outputs.argmax(axis=-1).astype(jnp.int32), best)

    def answers(
        self,
        rows: Sequence[TaggedText],
        examples: Sequence[Example],
        predictions: Sequence[Prediction],
    ) -> list[Answer]:
        """Of a word in several windows, the answer where most is to be seen on its scarcer side;
        of equals the first."""
        sizes = [len(row.words) for row in rows]
        found = [np.full(size, NONE) for size in sizes]
        sure = [np.ones(size, np.float32) for size in sizes]
        context = [np.full(size, NONE) for size in sizes]
        for example, prediction in zip(examples, predictions, strict=True):
            places = np.flatnonzero(example.words != NONE)
            words = example.words[places]
            seen = np.minimum(places, example.length - 1 - places)
            is_better = seen > context[example.row][words]
            places, words, seen = places[is_better], words[is_better], seen[is_better]
            context[example.row][words] = seen
            found[example.row][words] = prediction.tags[places]
            sure[example.row][words] = prediction.probabilities[places]
        named = np.array([*self.labels, OUTSIDE])  # NONE is the last
        return [
            Answer(tuple(named[tags].tolist()), probabilities)
            for tags, probabilities in zip(found, sure, strict=True)
        ]

    def score(
        self, rows: Sequence[TaggedText], answers: Sequence[Answer], data: LabelledDataConfig
    ) -> dict[str, float]:
        """Of entities over all types together; `accuracy` is that of words."""
        del data
        is_plain = self._is_plain()
        counts = [
            _counts(row.tags, answer.tags, is_plain)
            for row, answer in zip(rows, answers, strict=True)
        ]
        right, words, *entities = np.array(counts).sum(axis=0).tolist()
        return {**scores.Counts(*entities).retrieval._asdict(), "accuracy": right / words}

    def blind(self, known: Sequence[TaggedText], rows: Sequence[TaggedText]) -> list[Answer]:
        """The most frequent tag for every word."""
        ((tag, _),) = Counter(tag for row in known for tag in row.tags).most_common(1)
        sizes = [len(row.words) for row in rows]
        return [Answer((tag,) * size, np.ones(size, np.float32)) for size in sizes]

    def details(self, rows: Sequence[TaggedText], answers: Sequence[Answer]) -> dict[str, Any]:
        """The scheme, and the metrics of every type."""
        found = scores.of_entities(*self._both(rows, answers))
        types = {
            name: {**found.types[name]._asdict(), "entities": found.support[name]}
            for name in sorted(found.types)
        }
        return {"scheme": schemes.scheme_of(self.labels), "types": types}

    def findings(
        self,
        rows: Sequence[TaggedText],
        encoded: Encoded,
        answers: Sequence[Answer],
        data: LabelledDataConfig,
    ) -> list[Section]:
        """Every type, the most confident wrong entities, right tags by length."""
        from bert_jax.tasks import findings  # draws, which a prediction need not wait for

        del data
        said = []
        for row, answer, true, found in zip(rows, answers, *self._both(rows, answers), strict=True):
            for entity in found:
                there = [one for one in true if one.start < entity.end and entity.start < one.end]
                text = LabelledText(row.text, "", "", place_of(row, entity.start))
                sure = float(answer.probabilities[entity.start : entity.end].mean())
                names = ", ".join(_named(row, one) for one in there) or NOT_DEFINED
                said.append(findings.Said(text, names, _named(row, entity), entity in true, sure))
        right = [
            np.mean([tag == one for tag, one in zip(row.tags, answer.tags, strict=True)])
            for row, answer in zip(rows, answers, strict=True)
        ]
        types = self.details(rows, answers)["types"]
        parts = [(example.row, example.length) for example in encoded.examples]
        lengths = whole_lengths(parts, encoded.cut, len(rows), self.overlap)
        return findings.of_tags(types, said, lengths, np.array(right))

    def report(self, result: Mapping[str, Any]) -> list[str]:
        """A line for every type."""
        width = max(map(len, ("type", *result["types"])))
        lines = [f"{'type':{width}} precision    recall        f1  entities"]
        for name, one in result["types"].items():
            numbers = "".join(f"{one[key]:10.4f}" for key in ("precision", "recall", "f1"))
            lines.append(f"{name:{width}}{numbers}{one['entities']:10,}")
        return lines

    def row_of(self, text: Text) -> TaggedText:
        """Words as corpora have them, with a tag that is known."""
        if text.pair:
            raise InputError(
                f"{text.where} has a second text and the model takes single ones: leave it away."
            )
        words = tuple(text.text[start:end] for start, end in written_words(text.text))
        return TaggedText(text.text, words, (self.labels[0],) * len(words), "first", text.where)

    def shown(self, row: TaggedText, answer: Answer) -> dict[str, Any]:
        """Entities by characters [start, end) of the text, each with the mean probability of the
        tags of its words."""
        spans = written_words(row.text)
        found = []
        for entity in self._entities(answer.tags):
            start, end = spans[entity.start][0], spans[entity.end - 1][1]
            said = {"type": entity.type, "text": row.text[start:end], "start": start, "end": end}
            probability = answer.probabilities[entity.start : entity.end].mean()
            found.append({**said, "probability": float(probability)})
        return {"text": row.text, "entities": found}

    def _pieces(self, words: set[str]) -> dict[str, list[int]]:
        """Without those that hold no character, such as a ▁ of its own."""
        found = {}
        for word in words:
            ids, offsets = self.tokenizer.encode(word)
            found[word] = [i for i, (start, end) in zip(ids, offsets, strict=True) if start < end]
        return found

    def _entities(self, tags: Sequence[str]) -> list[Entity]:
        return _entities(tags, self._is_plain())

    def _is_plain(self) -> bool:
        return schemes.scheme_of(self.labels) == PLAIN

    def _both(
        self, rows: Sequence[TaggedText], answers: Sequence[Answer]
    ) -> tuple[list[list[Entity]], list[list[Entity]]]:
        """The entities there are and those found."""
        both = ([row.tags for row in rows], [answer.tags for answer in answers])
        return tuple([self._entities(tags) for tags in part] for part in both)


def _entities(tags: Sequence[str], is_plain: bool) -> list[Entity]:
    return schemes.single_words(tags) if is_plain else schemes.entities(tags)


# The bootstrap asks for every row a hundred times.
@functools.lru_cache(maxsize=2**18)
def _counts(tags: tuple[str, ...], said: tuple[str, ...], is_plain: bool) -> tuple[int, ...]:
    """Right words and all of them, then the counts of entities."""
    right = sum(tag == one for tag, one in zip(tags, said, strict=True))
    entities = (_entities(tags, is_plain), _entities(said, is_plain))
    return right, len(tags), *scores.count_entities(*entities)


def _named(row: TaggedText, entity: Entity) -> str:
    return f"{entity.type}: {' '.join(row.words[entity.start : entity.end])}"


def _with_ends(of_pieces: Sequence[int]) -> Int[np.ndarray, "T"]:
    return np.array([NONE, *of_pieces, NONE], np.int32)


def _refuse(row: TaggedText, labels: Sequence[str]) -> None:
    """Raises InputError for the row's first tag that is none of the labels."""
    place, tag = next((n, tag) for n, tag in enumerate(row.tags) if tag not in labels)
    scheme = schemes.scheme_of(labels)
    what = (
        f"is outside the scheme {scheme} of the training rows"
        if scheme != PLAIN
        else "was never seen in training"
    )
    raise InputError(
        f"{place_of(row, place)}: tag {tag!r} of {row.words[place]!r} {what}"
        f" (known: {listed(labels)}); correct it or leave the sentence out."
    )
