"""Batches a second from a prepared dataset, beside Hugging Face's pipeline on the same text.

    pip install -e .[peers]
    python tests/benchmarks/loader.py --data=runs/data

Both sides read from disk, draw masks on the fly and hand over batches of the same size and
length, in one process; rounds are interleaved, and the median counts. Hugging Face:
`datasets` and the collators of `transformers`, tokens in blocks of the row's length as in
its run_mlm.py (cut across documents, no sentence pairs, no attention borders), and one
document a row, padded. Its whole-word collator reads Python lists, so it gets them.
"""

import argparse
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bert_jax.config import MaskingConfig
from bert_jax.data import dataset, pipeline
from bert_jax.data.masking import mask_row, random_replacements
from bert_jax.text import tokenizer as tokenizers

ROWS_FOR_HUGGING_FACE = 8_000
Batches = Iterator[tuple[int, int]]  # rows, real tokens


def ours(data: Path, unit: str, batch_size: int) -> Batches:
    """Our loader, one thread and nothing read ahead while the others are measured."""
    batches = _batches(data, unit, batch_size)
    for step in itertools.count():
        yield batch_size, int((batches[step].tokens.instances > 0).sum())


def hugging_face(data: Path, blocks: bool, whole_words: bool, batch_size: int) -> Batches:
    """Their loader, as fast as it goes in one process."""
    import torch
    import transformers
    from torch.utils.data import DataLoader

    manifest = dataset.read_manifest(data)
    tokenizer = transformers.BertTokenizerFast(str(data / "tokenizer" / "vocab.txt"))
    rows = _hugging_face_rows(data, tokenizer, manifest["length"], blocks)
    collators = (
        transformers.DataCollatorForLanguageModeling,
        transformers.DataCollatorForWholeWordMask,
    )
    collate = collators[whole_words](tokenizer, mlm_probability=0.15)
    torch.manual_seed(0)
    loader = DataLoader(
        rows if whole_words else rows.with_format("torch"),
        batch_size=batch_size,
        shuffle=True,
        collate_fn=collate,
        drop_last=True,
    )
    while True:
        for batch in loader:
            yield batch_size, int((batch["input_ids"] != tokenizer.pad_token_id).sum())


def _hugging_face_rows(data: Path, tokenizer: Any, length: int, blocks: bool) -> Any:
    import datasets

    datasets.disable_progress_bars()
    cache = tempfile.mkdtemp(prefix="hugging_face-")  # each its own: they are mapped into memory
    documents = datasets.Dataset.from_dict({"text": list(_texts(data))}, split="train")

    def cut(batch: dict[str, list[list[int]]]) -> dict[str, list[list[int]]]:
        ids = list(itertools.chain.from_iterable(batch["input_ids"]))
        whole = len(ids) // length * length
        return {"input_ids": [ids[i : i + length] for i in range(0, whole, length)]}

    def encode(batch: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        found = tokenizer(batch["text"], truncation=not blocks, max_length=length)
        return {"input_ids": found["input_ids"]}

    encoded = documents.map(encode, batched=True, remove_columns=["text"])
    if blocks:
        encoded = encoded.map(cut, batched=True)
    # From a file on disk, as a real run reads it.
    encoded.save_to_disk(cache)
    return datasets.load_from_disk(cache)


def _texts(data: Path) -> Iterator[str]:
    """The text of training instances: enough that nothing is read twice in a measurement."""
    tokenizer = tokenizers.load(data / "tokenizer")
    rows = dataset.RowSource(data, dataset.TRAIN)
    for index in range(min(len(rows), ROWS_FOR_HUGGING_FACE)):
        row = rows[index]
        for end, size in zip(np.cumsum(row.lengths), row.lengths, strict=True):
            yield tokenizer.decode(row.ids[end - size + 1 : end - 1].tolist())


def _batches(data: Path, unit: str, batch_size: int):
    manifest = dataset.read_manifest(data)
    return pipeline.training_batches(
        dataset.RowSource(data, dataset.TRAIN),
        tokenizers.load(data / "tokenizer"),
        _masking(unit, manifest["length"]),
        length=manifest["length"],
        max_instances=manifest["max_instances"],
        batch_size=batch_size,
        seed=0,
    )


def _masking(unit: str, length: int) -> MaskingConfig:
    return MaskingConfig(
        unit=unit,
        span_words=3,
        rate=0.15,
        max_predictions=round(80 / 512 * length),
        mask_share=0.8,
        random_share=0.1,
        random_special=True,
    )


def where_the_time_goes(data: Path, rows: int) -> dict[str, float]:
    """Microseconds a row of each part of our loader, measured one after the other."""
    tokenizer = tokenizers.load(data / "tokenizer")
    source = dataset.RowSource(data, dataset.TRAIN)
    order = np.random.default_rng(0).permutation(len(source))[:rows].tolist()
    parts = {}

    def timed(name: str, action: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        result = action()
        parts[name] = 1e6 * (time.perf_counter() - started) / len(order)
        return result

    read = timed("read and decode", lambda: [source[i] for i in order])
    rng = np.random.default_rng(0)
    for unit in ("token", "word", "span"):
        masking = _masking(unit, dataset.read_manifest(data)["length"])
        ids = random_replacements(
            masking, vocab_size=tokenizer.vocab_size, special=tokenizer.special
        )
        timed(
            f"mask, {unit}",
            lambda masking=masking, ids=ids: [
                mask_row(row, masking, mask_id=tokenizer.special.mask, replacements=ids, rng=rng)
                for row in read
            ],
        )
    batches = _batches(data, "token", 64)
    timed("all, token", lambda: [batches[i] for i in range(len(order) // 64)])
    return parts


def measure(makers: dict[str, Callable[[], Batches]], batches: int, rounds: int) -> dict[str, Any]:
    """Median rows and real tokens a second of each, rounds interleaved."""
    streams = {name: make() for name, make in makers.items()}
    for stream in streams.values():
        next(stream)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in streams}
    for _ in range(rounds):
        for name, stream in streams.items():
            started = time.perf_counter()
            rows, tokens = np.sum([next(stream) for _ in range(batches)], axis=0)
            seconds = time.perf_counter() - started
            found[name].append((rows / seconds, tokens / seconds))
    return {name: [statistics.median(column) for column in zip(*f, strict=True)]
            for name, f in found.items()}  # fmt: skip


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="a prepared dataset")
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--batches", type=int, default=20, help="in a round")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    data, size = arguments.data, arguments.batch_size
    makers = {
        f"bert_jax, {unit}": lambda unit=unit: ours(data, unit, size)
        for unit in ("token", "word", "span")
    }
    try:
        import datasets  # noqa: F401
        import torch
        import transformers  # noqa: F401
    except ImportError as error:
        print(f"without Hugging Face ({error.name} is not installed)", file=sys.stderr)
    else:
        torch.set_num_threads(1)
        for blocks, row in ((True, "blocks"), (False, "padded")):
            for whole_words, unit in ((False, "token"), (True, "word")):
                makers[f"Hugging Face, {row}, {unit}"] = (
                    lambda blocks=blocks, whole_words=whole_words: hugging_face(
                        data, blocks, whole_words, size
                    )
                )
    speeds = measure(makers, arguments.batches, arguments.rounds)
    base = speeds["bert_jax, token"]
    print(f"{'':32}{'rows/s':>10}{'real tokens/s':>16}{'ratio':>8}")
    for name, (rows, tokens) in speeds.items():
        print(f"{name:32}{rows:10,.0f}{tokens:16,.0f}{tokens / base[1]:8.2f}")
    print("\nwhere the time of a row goes, microseconds:")
    for name, spent in where_the_time_goes(data, 2048).items():
        print(f"{name:32}{spent:10.0f}")


if __name__ == "__main__":
    main()
