"""The documents of a preparation as Hugging Face's run_mlm.py reads them: cut into blocks."""

import itertools
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Int

from bert_jax.arrays import PretrainBatch, Tokens
from bert_jax.config import PrepareConfig
from bert_jax.data import buckets, dataset
from bert_jax.errors import InputError
from bert_jax.fields import build
from bert_jax.text.pieces import SpecialIds

RATE = 0.15  # of the tokens that are not special, masked; run_mlm's --mlm_probability
MASK_SHARE, RANDOM_SHARE = 0.8, 0.1


def read_blocks(directory: Path) -> dict[str, Int[np.ndarray, "N T"]]:
    """The blocks of each split: its documents end to end, as often as the preparation went
    through them.

    Raises InputError where the sources are no longer those that it read.
    """
    manifest = dataset.read_manifest(directory)
    config = build(PrepareConfig, manifest["config"] | {"workers": 1})
    tokenizer = dataset.load_tokenizer(directory, manifest)
    described = buckets.describe(config)
    if [each["files"] for each in described] != [each["files"] for each in manifest["sources"]]:
        raise InputError(
            f"the sources of {directory} have changed since it was prepared: prepare it again."
        )
    with tempfile.TemporaryDirectory() as folder:
        buckets.deal(config, Path(folder), described)
        return {
            split: cut(
                _ids(buckets.read_shard(Path(folder), split, 0, 1), split, config, tokenizer),
                manifest["length"],
                tokenizer.special,
            )
            for split in (dataset.TRAIN, dataset.HELDOUT)
        }


def cut(documents: Iterable[list[int]], length: int, special: SpecialIds) -> Int[np.ndarray, "N T"]:
    """`[CLS] document [SEP]` of all of them end to end, in blocks of `length`; what is left over
    at the end is dropped."""
    joined = [np.array([special.cls, *document, special.sep], np.int32) for document in documents]
    tokens = np.concatenate(joined) if joined else np.zeros(0, np.int32)
    whole = len(tokens) // length
    return tokens[: whole * length].reshape(whole, length)


def mask_blocks(
    blocks: Int[np.ndarray, "N T"],
    special: SpecialIds,
    *,
    vocab_size: int,
    batch_size: int,
    seed: int,
) -> list[PretrainBatch]:
    """The blocks with masks fixed by the seed: whole rows of one segment, in which every token
    sees every other. The last batch is filled with rows in which nothing is masked."""
    rng = np.random.default_rng(seed)
    slots = round(RATE * blocks.shape[1])
    rows = [_mask(block, special, vocab_size, slots, rng) for block in blocks]
    rows += [(blocks[0], *(np.zeros(slots, np.int32),) * 3)] * (-len(rows) % batch_size)
    return [_batch(rows[first : first + batch_size]) for first in range(0, len(rows), batch_size)]


def _ids(
    documents: list[buckets.Document], split: str, config: PrepareConfig, tokenizer
) -> Iterator[list[int]]:
    encoded = tokenizer.encode_batch([document.text for document in documents])
    uses = [buckets.passes(document, split, config) for document in documents]
    for number in range(max(uses, default=0)):
        yield from itertools.compress(encoded, [used > number for used in uses])


def _mask(
    block: Int[np.ndarray, "T"],
    special: SpecialIds,
    vocab_size: int,
    slots: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The ids with replacements; the masked positions, what stood there, and 1 for each."""
    maskable = np.flatnonzero(~np.isin(block, (special.cls, special.sep)))
    count = max(1, round(RATE * len(maskable)))
    positions, labels, weights = (np.zeros(slots, np.int32) for _ in range(3))
    positions[:count] = np.sort(rng.choice(maskable, count, replace=False))
    labels[:count] = block[positions[:count]]
    weights[:count] = 1
    kind = rng.random(count)
    random_ids = rng.integers(vocab_size, size=count)
    replaced = np.where(kind < MASK_SHARE, special.mask, labels[:count])
    is_random = (kind >= MASK_SHARE) & (kind < MASK_SHARE + RANDOM_SHARE)
    ids = block.copy()
    ids[positions[:count]] = np.where(is_random, random_ids, replaced)
    return ids, positions, labels, weights


def _batch(rows: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]) -> PretrainBatch:
    ids, positions, labels, weights = (np.stack(column) for column in zip(*rows, strict=True))
    count, length = ids.shape
    none = np.zeros((count, 1), np.int32)
    return PretrainBatch(
        tokens=Tokens(
            ids=ids,
            segments=np.zeros_like(ids),
            positions=np.broadcast_to(np.arange(length, dtype=np.int32), ids.shape),
            instances=np.ones_like(ids),
        ),
        mask_positions=positions,
        mask_labels=labels,
        mask_weights=weights.astype(np.float32),
        cls_positions=none,
        next_labels=none,
        next_weights=none.astype(np.float32),
    )
