"""The rows that both systems read: cut by hash, written as files, encoded the same way."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bert_jax import workdir as wd
from bert_jax.errors import InputError
from bert_jax.finetune_config import FinetuneConfig
from bert_jax.tasks import all_tasks
from bert_jax.tasks.splits import TEST, TRAIN, VALIDATION, read_splits
from bert_jax.tasks.task import Task
from bert_jax.text import tokenizer as tokenizers

SPLITS = (TRAIN, VALIDATION, TEST)


class Opened(NamedTuple):
    """The task as its training rows have it, with rows and examples by split."""

    task: Task
    rows: dict[str, list[Any]]
    examples: dict[str, list[Any]]


def cut(rows: Sequence[Any], most: int) -> list[Any]:
    """The `most` rows of the smallest hashes, 0 = all as they are.

    Whatever the order they came in; of a larger number the smaller is a part.
    """
    if not most:
        return list(rows)
    return sorted(rows, key=_digest)[:most]


def _digest(row: Any) -> str:
    content = json.dumps(row._replace(where=""), ensure_ascii=False)
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()


def write(
    config: FinetuneConfig, most: Mapping[str, int], directory: Path
) -> tuple[FinetuneConfig, dict[str, str]]:
    """Writes a file a split, cut to `most` where it is named there; the config that reads them,
    and what is to be said of each split."""
    splits = read_splits(all_tasks.named(config.task), config.data, is_tested=True)
    if not splits[TEST]:
        raise InputError("config.data.test is empty: name the rows to compare on.")
    directory.mkdir(parents=True, exist_ok=True)
    said, paths = {}, {}
    for split in SPLITS:
        kept = cut(splits[split], most.get(split, 0))
        paths[split] = str(directory / f"{split}.jsonl")
        lines = [json.dumps(_record(row), ensure_ascii=False) + "\n" for row in kept]
        wd.write_text(Path(paths[split]), "".join(lines))
        is_cut = len(kept) < len(splits[split])
        said[split] = f"{len(kept):,}" + f" of {len(splits[split]):,} by hash" * is_cut
    pair = "pair" if config.data.pair_field else ""
    fields = dict(text_field="text", pair_field=pair, label_field="label", id_field="")
    return dataclasses.replace(
        config, data=dataclasses.replace(config.data, **paths, **fields)
    ), said


def _record(row: Any) -> dict[str, Any]:
    # Tagged words are a list, and so are their tags.
    text = getattr(row, "words", row.text)
    return {"text": text, "label": row.label} | ({"pair": row.pair} if row.pair else {})


def digest(config: FinetuneConfig) -> str:
    """Of the files that it reads."""
    found = hashlib.sha256()
    for split in SPLITS:
        found.update(hashlib.sha256(Path(getattr(config.data, split)).read_bytes()).digest())
    return found.hexdigest()


def open_rows(config: FinetuneConfig) -> Opened:
    """As our fine-tuning does."""
    kind = all_tasks.named(config.task)
    rows = read_splits(kind, config.data, is_tested=True)
    labels = kind.find_labels(rows[TRAIN], config.data)
    tokenizer = tokenizers.load(Path(config.init_from) / wd.TOKENIZER)
    task = kind(labels, tokenizer, config.max_length, config.window_overlap)
    return Opened(task, rows, {split: task.encode(rows[split]).examples for split in SPLITS})
