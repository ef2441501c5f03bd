"""What somebody's directory or file holds, found by looking: weights, config, vocabulary."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bert_jax.errors import InputError
from bert_jax.interchange import hdf5, pickled, safetensors, tf_checkpoint, torchscript
from bert_jax.interchange.architecture import CONFIG, ORIGINAL_CONFIG
from bert_jax.interchange.stored import Tensors, reading

# The names that directories give their weights, best first.
WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "tf_model.h5",
)
# Of files with other names there must be one.
SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".h5", tf_checkpoint.INDEX)
SHARDS = ".index.json"
LFS = b"version https://git-lfs"


@dataclass(frozen=True)
class Source:
    """What was found."""

    weights: Path  # the file, or one of several
    kind: str
    tensors: Tensors
    config: Path
    tokenizer: Path

    @property
    def is_original(self) -> bool:
        """Whether the original release's code has written the weights."""
        return self.kind == "TensorFlow checkpoint"


def find(path: Path, *, config: str, tokenizer: str) -> Source:
    """Opens the weights of a directory or file.

    `config` and `tokenizer` name what does not lie beside them; "" = it does. Raises
    InputError where something is missing.
    """
    weights = _weights(path)
    directory = weights.parent
    kind, read = _kind(weights)
    return Source(
        weights,
        kind,
        read(weights),
        Path(config) if config else _config(directory),
        Path(tokenizer) if tokenizer else directory,
    )


def _weights(path: Path) -> Path:
    if path.is_file() or Path(f"{path}{tf_checkpoint.INDEX}").is_file():
        return path
    if not path.is_dir():
        raise InputError(f"--from={path} does not exist: name a directory or a file of weights.")
    for name in WEIGHTS:
        if (path / name).is_file():
            return path / name
    found = sorted(file for file in path.iterdir() if file.name.endswith(SUFFIXES))
    if not found:
        raise InputError(
            f"--from={path} holds no weights: none of {', '.join(WEIGHTS)}, no checkpoint of"
            " TensorFlow and no finished run of bert_jax."
        )
    if len(found) > 1:
        names = " and ".join(file.name for file in found[:2])
        raise InputError(f"--from={path} holds {names}: name the file that is meant.")
    return found[0]


def _config(directory: Path) -> Path:
    for name in (CONFIG, ORIGINAL_CONFIG):
        if (directory / name).is_file():
            return directory / name
    raise InputError(
        f"{directory} holds no {CONFIG}, which says how many heads the weights have: put it"
        " there, or name one with --model_config=FILE."
    )


def _kind(weights: Path) -> tuple[str, Callable[[Path], Tensors]]:
    """By the first bytes, as a file may be called anything."""
    if not weights.is_file():
        return "TensorFlow checkpoint", tf_checkpoint.read
    if weights.name.endswith(tf_checkpoint.INDEX):
        return "TensorFlow checkpoint", _without_index
    if weights.name.endswith(SHARDS):
        return "shards", _read_shards
    with reading(weights), weights.open("rb") as file:
        start = file.read(len(LFS))
    if start == LFS:
        raise InputError(
            f"{weights} is not the weights but a pointer to them: run git lfs pull there."
        )
    if start.startswith(b"\x89HDF"):
        return "HDF5", hdf5.read
    if torchscript.is_archive(weights):
        return "TorchScript", torchscript.read
    # A zip archive, or a pickle of protocol 2 and above.
    if start.startswith((b"PK", b"\x80")) and start[8:9] != b"{":
        return "PyTorch", pickled.read
    return "safetensors", safetensors.read


def _without_index(index: Path) -> Tensors:
    return tf_checkpoint.read(index.with_name(index.name.removesuffix(tf_checkpoint.INDEX)))


def _read_shards(index: Path) -> Tensors:
    with reading(index, ValueError, KeyError, AttributeError):
        parts = json.loads(index.read_text("utf-8"))["weight_map"]
        files = sorted({Path(str(name)).name for name in parts.values()})
    found: Tensors = {}
    for name in files:
        shard = index.with_name(name)
        if not shard.is_file():
            raise InputError(f"{index} names {name}, which is not there: fetch it too.")
        _, read = _kind(shard)
        found |= read(shard)
    absent = sorted(parts.keys() - found.keys())
    if absent:
        raise InputError(
            f"{index.with_name(parts[absent[0]])} does not hold {absent[0]}, which"
            f" {index.name} says it does: fetch it again."
        )
    return found
