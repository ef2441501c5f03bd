"""The documents of one shard to its rows, a pure function of (config, documents, vocabulary)."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from bert_jax.config import PrepareConfig
from bert_jax.data.buckets import Document, passes
from bert_jax.data.dataset import HELDOUT
from bert_jax.data.instances import (
    DOES_NOT_FOLLOW,
    NO_LABEL,
    OBJECTIVES,
    Instance,
    TokenizedDocument,
)
from bert_jax.data.rows import Row, instance_length, make_row, mark, pack
from bert_jax.text.sentences import split_sentences
from bert_jax.text.tokenizer import Tokenizer
from bert_jax.text.words import WordMarker


class Counts(NamedTuple):
    """What one shard holds, or several."""

    documents: int = 0  # with at least one sentence
    empty_documents: int = 0
    one_sentence_documents: int = 0
    longest_document: int = 0  # characters
    characters: int = 0
    sentences: int = 0
    words: int = 0
    tokens: int = 0  # of the documents, without special tokens
    unknown: int = 0  # of these, [UNK]
    instances: int = 0
    labelled: int = 0  # of these, with a label that says whether B follows
    not_following: int = 0  # of these, a random next segment, or swapped
    rows: int = 0
    row_tokens: int = 0  # special ones included, padding not
    most_instances: int = 0  # in one row

    @classmethod
    def total(cls, parts: Iterable["Counts"]) -> "Counts":
        """All of them together."""
        columns = zip(cls._fields, zip(*parts, strict=True), strict=True)
        largest = ("longest_document", "most_instances")
        return cls(**{name: (max if name in largest else sum)(found) for name, found in columns})


class Shard(NamedTuple):
    rows: list[Row]  # in their order on disk
    counts: Counts
    pieces: Int[np.ndarray, "V"]  # how often the documents hold each


def make_shard(
    documents: Sequence[Document],
    split: str,
    shard: int,
    config: PrepareConfig,
    tokenizer: Tokenizer,
) -> Shard:
    """The rows of the documents, packed within each pass and shuffled over all."""
    tokenized, uses, counts = _tokenize(documents, split, config, tokenizer)
    rng = np.random.default_rng([config.seed, split == HELDOUT, shard])
    rows: list[Row] = []
    for number in range(uses.max(initial=0)):
        instances = list(_one_pass(tokenized, np.flatnonzero(uses > number), config, rng))
        rows += _make_rows(instances, config, tokenizer)
    pieces = np.zeros(tokenizer.vocab_size, np.int64)
    for document in tokenized:
        pieces += np.bincount(document.tokens >> 1, minlength=tokenizer.vocab_size)
    labels = np.concatenate([row.next_labels for row in rows] or [np.zeros(0, np.int8)])
    counts = counts._replace(
        tokens=int(pieces.sum()),
        unknown=int(pieces[tokenizer.special.unk]),
        instances=len(labels),
        labelled=int((labels != NO_LABEL).sum()),
        not_following=int((labels == DOES_NOT_FOLLOW).sum()),
        rows=len(rows),
        row_tokens=sum(len(row.ids) for row in rows),
        most_instances=max((len(row.lengths) for row in rows), default=0),
    )
    return Shard([rows[i] for i in rng.permutation(len(rows))], counts, pieces)


def _one_pass(
    documents: Sequence[TokenizedDocument],
    used: Int[np.ndarray, "d"],
    config: PrepareConfig,
    rng: np.random.Generator,
) -> Iterator[Instance]:
    for index in rng.permutation(used).tolist():
        yield from OBJECTIVES[config.instances.objective](
            documents,
            index,
            length=config.instances.length,
            short_probability=config.instances.short_probability,
            rng=rng,
        )


def _tokenize(
    documents: Sequence[Document], split: str, config: PrepareConfig, tokenizer: Tokenizer
) -> tuple[list[TokenizedDocument], Int[np.ndarray, "d"], Counts]:
    """The documents that have a sentence, how often each is used, and what was counted."""
    words_of = WordMarker(tokenizer, config.instances.words)
    found, uses, counted = [], [], []
    for document in documents:
        sentences = split_sentences(document.text)
        marked = [mark(*sentence) for sentence in words_of(sentences)]
        marked = [tokens for tokens in marked if len(tokens)]
        characters = sum(map(len, sentences))
        counts = Counts(
            documents=bool(marked),
            empty_documents=not marked,
            one_sentence_documents=len(marked) == 1,
            longest_document=characters,
            characters=characters,
            sentences=len(marked),
        )
        if marked:
            tokens = np.concatenate(marked)
            found.append(TokenizedDocument(tokens, np.cumsum([*map(len, marked)])))
            uses.append(passes(document, split, config))
            counts = counts._replace(words=int((tokens & 1).sum()))
        counted.append(counts)
    return found, np.array(uses, np.int64), Counts.total(counted) if counted else Counts()


def _make_rows(instances: list[Instance], config: PrepareConfig, tokenizer: Tokenizer) -> list[Row]:
    if config.instances.packing:
        groups = pack([*map(instance_length, instances)], config.instances.length)
    else:
        groups = [[index] for index in range(len(instances))]
    special = tokenizer.special
    return [
        make_row([instances[i] for i in group], cls=special.cls, sep=special.sep)
        for group in groups
    ]
