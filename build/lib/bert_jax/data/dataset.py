"""The prepared dataset on disk: rows as ArrayRecord, in TFDS's layout, beside a manifest.

`tensorflow_datasets.builder_from_directory(DIR).as_data_source()` reads it too.
Neither writing nor reading imports TensorFlow.
"""

import functools
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter
from jaxtyping import Int

from bert_jax import workdir as wd
from bert_jax.data.rows import Row
from bert_jax.errors import InputError
from bert_jax.text import tokenizer as tokenizers
from bert_jax.text.files import checksum
from bert_jax.text.tokenizer import Tokenizer

NAME = "pretraining_rows"
VERSION = "2.0.0"  # of the fields of a row and of the manifest
DESCRIPTION = "BERT pretraining rows: [CLS] A [SEP] B [SEP], masks drawn at read time."
TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
MANIFEST = "manifest.json"
TOKEN_COUNTS = "token_counts.npy"
TRAIN, HELDOUT = "train", "heldout"
MEND = "copy the dataset again, or delete it and prepare it again"
DTYPES = {
    "ids": np.int32,
    "is_word_start": np.bool_,
    "lengths": np.int32,
    "a_lengths": np.int32,
    "next_labels": np.int8,
}


@functools.cache
def features():
    """How TFDS keeps a row."""
    import tensorflow_datasets as tfds

    # As bytes an array is read and written in a copy, as numbers one by one.
    return tfds.features.FeaturesDict(
        {
            name: tfds.features.Tensor(
                shape=(None,), dtype=dtype, encoding=tfds.features.Encoding.BYTES
            )
            for name, dtype in DTYPES.items()
        }
    )


def shard_path(directory: Path, split: str, shard: int, shards: int) -> Path:
    """Where TFDS looks for a shard."""
    return directory / f"{NAME}-{split}.array_record-{shard:05d}-of-{shards:05d}"


def write_shard(path: Path, rows: Iterable[Row]) -> int:
    """Writes the rows and returns their bytes. Appears whole or not at all."""
    from tensorflow_datasets.core import example_serializer

    serializer = example_serializer.ExampleSerializer(features().get_serialized_info())
    partial = path.with_name(f".partial-{path.name}")
    size = 0
    # group_size:1 makes every record its own chunk: random access reads no neighbours.
    writer = ArrayRecordWriter(str(partial), "group_size:1")
    for row in rows:
        example = serializer.get_tf_example(features().encode_example(row._asdict()))
        # Else the order of the fields, and so the bytes, change from process to process.
        record = example.SerializeToString(deterministic=True)
        writer.write(record)
        size += len(record)
    writer.close()
    os.replace(partial, path)
    return size


def write_metadata(directory: Path, splits: dict[str, Sequence[tuple[int, int]]]) -> None:
    """Writes TFDS's dataset_info.json and features.json from the shards' (rows, bytes)."""
    import tensorflow_datasets as tfds

    template = tfds.core.ShardedFileTemplate(
        data_dir=directory,
        template=TEMPLATE,
        dataset_name=NAME,
        filetype_suffix="array_record",
    )
    tfds.folder_dataset.write_metadata(
        data_dir=directory,
        features=features(),
        split_infos=[
            tfds.core.SplitInfo(
                name=name,
                shard_lengths=[count for count, _ in shards],
                num_bytes=sum(size for _, size in shards),
                filename_template=template.replace(split=name),
            )
            for name, shards in splits.items()
        ],
        version=VERSION,
        filename_template=template,
        check_data=False,  # the check reads a record with TensorFlow
        description=DESCRIPTION,
    )


def read_manifest(directory: str | Path) -> dict[str, Any]:
    """The manifest, or an InputError that says how to make one."""
    path = Path(directory) / MANIFEST
    try:
        manifest = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"{directory} holds no prepared dataset ({MANIFEST} is missing):"
            " make one with python -m bert_jax.prepare --workdir=DIR."
        ) from None
    except ValueError:
        manifest = None
    if not isinstance(manifest, dict) or "shards" not in manifest:
        raise InputError(f"{path} is not a manifest of rows: {MEND}.")
    if manifest.get("version") != VERSION:
        raise InputError(
            f"{path} is of version {manifest.get('version', '1.0.0')}, and {VERSION} is read here:"
            " prepare the same sources in a new directory."
        )
    return manifest


def check_shards(directory: str | Path, manifest: dict[str, Any]) -> None:
    """Raises InputError for a shard that is missing or of another size than it was written.

    Their content is not read: `python -m bert_jax.inspect` does that.
    """
    for name, written in manifest["shards"].items():
        path = Path(directory) / name
        size = path.stat().st_size if path.exists() else None
        if size != written["bytes"]:
            found = "missing" if size is None else f"{size:,} bytes long"
            raise InputError(
                f"{path} is {found} and was written with {written['bytes']:,} bytes: {MEND}."
            )


def verify_shards(directory: str | Path, manifest: dict[str, Any]) -> None:
    """`check_shards`, and reads every byte: raises InputError for a shard that was changed."""
    check_shards(directory, manifest)
    for name, written in manifest["shards"].items():
        path = Path(directory) / name
        if checksum(path) != written:
            raise InputError(f"{path} is damaged (its sha256 is not that of {MANIFEST}): {MEND}.")


def load_tokenizer(directory: str | Path, manifest: dict[str, Any]) -> Tokenizer:
    """The vocabulary of the rows. Raises InputError where another one lies in its place."""
    path = Path(directory) / wd.TOKENIZER
    tokenizer = tokenizers.load(path)
    if tokenizer.fingerprint != manifest["tokenizer"]:
        raise InputError(
            f"{path} is not the vocabulary that {directory} was prepared with: {MEND}."
        )
    return tokenizer


def read_token_counts(directory: str | Path) -> Int[np.ndarray, "V"]:
    """How often the training documents hold each piece."""
    path = Path(directory) / TOKEN_COUNTS
    try:
        return np.load(path)
    except (OSError, ValueError, EOFError):
        raise InputError(f"{path} cannot be read: {MEND}.") from None


class RowSource:
    """Random access to the rows of a split, for grain."""

    def __init__(self, directory: str | Path, split: str):
        import tensorflow_datasets as tfds

        try:
            builder = tfds.builder_from_directory(directory)
            self._info = builder.info.splits[split]
            self._source = builder.as_data_source(split)
        except Exception as error:  # whatever the reader meets in a damaged file
            raise InputError(
                f"{directory} cannot be opened as a dataset ({type(error).__name__}): {MEND}."
            ) from error

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Row:
        try:
            return Row(**self._source[index])
        except Exception as error:
            shard = int(np.searchsorted(np.cumsum(self._info.shard_lengths), index, side="right"))
            raise InputError(
                f"{self._info.filepaths[shard]} holds a record that cannot be read (row {index},"
                f" {type(error).__name__}): {MEND}."
            ) from error
