"""What silently ruins a pretraining, told from the counts of its prepared dataset."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from bert_jax.data.dataset import HELDOUT, TRAIN
from bert_jax.data.statistics import vocabulary_statistics
from bert_jax.text.tokenizer import Tokenizer

# More than this is warned of.
ONE_SENTENCE_SHARE = 0.1  # of the documents
LONGEST_SHARE = 0.5  # of the characters
UNKNOWN_SHARE = 0.01  # of the tokens
# Less than this.
FEW_DOCUMENTS = 100  # in a shard: random next segments repeat
FEW_ROWS = 1_000  # a model learns them by heart
# A vocabulary from another corpus is one of which little occurs, or which spells words out.
# Measured with vocabularies of 5,000 to 16,000 pieces on 1 to 2.5 million characters
# (statutes and reviews in Chinese, speeches in English). Of the own vocabulary 84 to 100 %
# occur; of one of a part of the corpus, or of both kinds of Chinese text, 51 to 97 %; of one
# of the other kind of Chinese text 49 and 58 %, the latter with 5 % [UNK]; of one of the other
# language 1 to 15 %; and of bert-base-chinese, of 21,000 pieces, 13 to 31 %.
OCCURRING_SHARE = 0.5
# Share of the tokens that are one letter of an alphabet. In English 2.5 to 4.4 % with the own
# vocabulary, 14 % with one of both languages, 28 to 89 % with one of Chinese; in text of both
# languages 3 % with the own and 10 to 44 % with one of Chinese, but for one with 15 % [UNK].
LETTER_SHARE = 0.1


def pitfalls(
    manifest: Mapping[str, Any], token_counts: Int[np.ndarray, "V"], tokenizer: Tokenizer
) -> list[str]:
    """A sentence for each that is there, with its number and the mend."""
    return [
        *_of_sources(manifest["sources"]),
        *_of_documents(manifest["splits"][TRAIN], manifest["objective"]),
        *_of_sizes(manifest["splits"], manifest["objective"]),
        *_of_vocabulary(manifest["splits"][TRAIN], token_counts, tokenizer),
    ]


def _of_sources(sources: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for source in sources:
        if without := source["without_text"]:
            records = source["documents"] + without
            yield (
                f"{without:,} of {records:,} records of {source['source']}"
                f" ({without / records:.1%}) have no text: look at it, and at --config.text_field."
            )


def _of_documents(train: Mapping[str, int], objective: str) -> Iterator[str]:
    documents = train["documents"]
    share = train["one_sentence_documents"] / documents
    if objective != "mlm" and share > ONE_SENTENCE_SHARE:
        random = train["not_following"] / max(train["labelled"], 1)
        effect = {
            "mlm+nsp": f"always get a random next segment, as {random:.1%} of all instances do",
            "mlm+sop": "have no order to predict",
        }[objective]
        yield (
            f"{train['one_sentence_documents']:,} of {documents:,} documents ({share:.1%}) are one"
            f" sentence, and {effect}: join what belongs together, or prepare with"
            " --config.instances.objective=mlm."
        )
    if empty := train["empty_documents"]:
        yield (
            f"{empty:,} of {documents + empty:,} documents ({empty / (documents + empty):.1%}) have"
            " no sentence: look at the sources, and at --config.text_field."
        )
    share = train["longest_document"] / train["characters"]
    if share > LONGEST_SHARE:
        yield (
            f"one document holds {share:.1%} of the {train['characters']:,} characters: cut it,"
            " such as at its chapters, with blank lines."
        )


def _of_sizes(splits: Mapping[str, Mapping[str, int]], objective: str) -> Iterator[str]:
    train = splits[TRAIN]
    if objective == "mlm+nsp" and train["documents"] < FEW_DOCUMENTS * train["shards"]:
        yield (
            f"a shard holds {train['documents'] / train['shards']:.0f} documents, fewer than"
            f" {FEW_DOCUMENTS}, and random next segments come from their own shard: lower"
            " --config.shards, or add text."
        )
    if train["rows"] < FEW_ROWS:
        yield (
            f"there are {train['rows']:,} rows for training, fewer than {FEW_ROWS:,}, which a"
            " model learns by heart: add text, or raise --config.instances.passes."
        )
    if HELDOUT not in splits:
        yield (
            "there are 0 held-out rows, so that nothing tells when a model learns by heart:"
            " raise --config.heldout_fraction."
        )


def _of_vocabulary(
    train: Mapping[str, int], token_counts: Int[np.ndarray, "V"], tokenizer: Tokenizer
) -> Iterator[str]:
    mend = "prepare with one that is trained on this text (--config.tokenizer.path='')."
    share = train["unknown"] / train["tokens"]
    if share > UNKNOWN_SHARE:
        yield f"{share:.1%} of the tokens are [UNK]: the vocabulary lacks their characters; {mend}"
    vocabulary = vocabulary_statistics(token_counts, tokenizer.special)
    if vocabulary.occurring_share < OCCURRING_SHARE:
        yield (
            f"only {vocabulary.occurring_share:.1%} of the {vocabulary.pieces:,} pieces occur: the"
            " vocabulary is from another corpus, or too large for this one; prepare with one that"
            " is trained on this text (--config.tokenizer.path='') and not larger than it gives"
            " (--config.tokenizer.vocab_size)."
        )
    is_letter = np.array([*map(_is_letter, tokenizer.pieces)])
    share = int(token_counts[is_letter].sum()) / train["tokens"]
    if share > LETTER_SHARE:
        yield (
            f"{share:.1%} of the tokens are single letters: the vocabulary is from another language"
            f" and spells words out; {mend}"
        )


def _is_letter(piece: str) -> bool:
    """Of an alphabet with capitals: Latin, Greek, Cyrillic."""
    letter = piece.removeprefix("##").removeprefix("▁")
    return len(letter) == 1 and letter.lower() != letter.upper()
