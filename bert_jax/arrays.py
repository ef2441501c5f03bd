"""The batches that travel from the data to the model, and the axis alphabet.

One letter, one meaning, in shapes, einsum strings and the README alike:

    B batch rows      T tokens in a row     P masked slots in a row
    S instances packed into a row           D width     H heads    K head size
    F feed-forward width                    L layers    V vocabulary
    C classes         R rows that packed examples share
    N tokens that are read of a row, or of an example

A row holds one instance (`[CLS] A [SEP] B [SEP]`) or, packed, several of them one
after the other. `Tokens.instances` says which: 1 to S, and 0 for padding. Attention
stays inside an instance, so a row of S instances computes what S rows of one would.

Arrays are numpy on the data side and jax inside a step; every type here is a
NamedTuple, which jax reads as a pytree. This file imports neither jax nor flax.
"""

from typing import Any, NamedTuple

from jaxtyping import Bool, Float, Int

# Axes of a mesh: a batch's rows go over the first two, heads and feed-forward over the last.
ROW_AXES = ("data", "fsdp")
HEAD_AXIS = "tensor"


class Tokens(NamedTuple):
    """What the encoder reads."""

    ids: Int[Any, "B T"]  # vocabulary ids; [PAD] where instances is 0
    segments: Int[Any, "B T"]  # 0 in `[CLS] A [SEP]` and in padding, 1 in `B [SEP]`
    positions: Int[Any, "B T"]  # from 0 in every instance
    instances: Int[Any, "B T"]  # 1..S, 0 = padding

    @property
    def rows(self) -> "Tokens":
        """These: what a model finds in PackedTokens by the same name."""
        return self

    @property
    def texts(self) -> int:
        """How many there are where each row holds one."""
        return len(self.ids)

    @property
    def is_token(self) -> Bool[Any, "B T"]:
        """False of padding."""
        return self.instances > 0


class PackedTokens(NamedTuple):
    """Examples that share the rows which the encoder reads. Labels and outputs are theirs, B of
    them; `bert_jax.model.heads.of_examples` leads from the rows back to them."""

    rows: Tokens  # R of them, as many as it took or some more
    # Where an example's tokens are among those of all rows, one after the other; -1 = padding.
    places: Int[Any, "B T"]

    @property
    def texts(self) -> int:
        """How many there are, with those that fill up the batch."""
        return len(self.places)

    @property
    def is_token(self) -> Bool[Any, "B T"]:
        """Of every example, as if it were a row."""
        return self.places >= 0


class PretrainBatch(NamedTuple):
    """Rows with masked tokens. A weight of 0 marks a slot that holds nothing."""

    tokens: Tokens
    mask_positions: Int[Any, "B P"]  # index into T
    mask_labels: Int[Any, "B P"]  # the original ids
    mask_weights: Float[Any, "B P"]  # 1 = a masked token
    cls_positions: Int[Any, "B S"]  # index into T of each instance's [CLS]
    next_labels: Int[Any, "B S"]  # 0 = B truly follows A; 1 = it does not (random or swapped)
    next_weights: Float[Any, "B S"]  # 1 = an instance with such a label


class ClassifyBatch(NamedTuple):
    """Texts, each with the index of its class."""

    tokens: Tokens | PackedTokens
    labels: Int[Any, "B"]
    # 1 = an example, or the weight of its class in training; 0 = filling up the last batch
    weights: Float[Any, "B"]


class MultilabelBatch(NamedTuple):
    """Texts, each with any number of classes."""

    tokens: Tokens | PackedTokens
    labels: Float[Any, "B C"]  # 1 = the class is one of them
    weights: Float[Any, "B"]


class RegressBatch(NamedTuple):
    """Texts, each with a number."""

    tokens: Tokens | PackedTokens
    values: Float[Any, "B"]
    weights: Float[Any, "B"]


class TagBatch(NamedTuple):
    """Texts, each with the indices of its words' tags."""

    tokens: Tokens | PackedTokens
    labels: Int[Any, "B T"]
    weights: Float[Any, "B T"]  # 1 = a piece that bears a tag


class SpanBatch(NamedTuple):
    """Questions, each with a part of its context, and the answer's first and last token."""

    tokens: Tokens | PackedTokens
    starts: Int[Any, "B"]  # index into T; 0, [CLS], where the answer is not in the row
    ends: Int[Any, "B"]
    weights: Float[Any, "B"]


class ChoiceBatch(NamedTuple):
    """The choices of a row one after the other: B x C texts."""

    tokens: Tokens | PackedTokens
    labels: Int[Any, "B"]  # which choice is right
    is_choice: Float[Any, "B C"]  # 1 = there is such a choice; rows may have different numbers
    weights: Float[Any, "B"]
