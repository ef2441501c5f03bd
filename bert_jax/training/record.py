"""The record beside the arrays of a checkpoint: what a run says of itself, and every checksum.

It carries a hash of itself. So a flipped byte, in it or in any array, is damage that is
noticed, and everything else that differs from what is expected is not taken for damage.
"""

import hashlib
import json
from typing import Any, NamedTuple

import jax
from jaxtyping import PyTree

from bert_jax.errors import InputError
from bert_jax.training.checksums import checksums
from bert_jax.training.paths import map_paths

FORMAT = 4  # of a checkpoint: its parts and what the record holds
_HASH = "sha256"


class Damaged(Exception):
    """What lies on the disk is not what was saved; the message says what of it."""


class OtherFormat(Exception):
    """Written by a version of bert_jax whose checkpoints are made otherwise."""


class ArrayRecord(NamedTuple):
    """What an array was when it was saved."""

    shape: tuple[int, ...]
    dtype: str
    checksum: int


class Record(NamedTuple):
    """`run` is the caller's; `arrays` are by path, `params/...` and `rest/...`."""

    run: dict[str, Any]
    metrics: dict[str, float]
    arrays: dict[str, ArrayRecord]

    def param_shapes(self) -> PyTree:
        """Shape and dtype of every parameter."""
        tree: dict[str, Any] = {}
        for path, array in self.arrays.items():
            part, *folders, name = path.split("/")
            if part == "params":
                node = tree
                for folder in folders:
                    node = node.setdefault(folder, {})
                node[name] = jax.ShapeDtypeStruct(array.shape, array.dtype)
        return tree


def describe(parts: PyTree) -> dict[str, ArrayRecord]:
    """Every array by path."""
    sums = jax.device_get(checksums(parts))
    return {
        path: ArrayRecord(tuple(leaf.shape), str(leaf.dtype), int(sums[path]))
        for path, leaf in by_path(parts).items()
    }


def verify(parts: PyTree, saved: dict[str, ArrayRecord]) -> None:
    """Raises Damaged where an array is not, to the bit, what was saved under its path."""
    for path, array in describe(parts).items():
        if saved.get(path) != array:
            raise Damaged(f"the checksum of {path} differs")


def by_path(tree: PyTree) -> dict[str, Any]:
    """The leaves of a tree by their paths."""
    found: dict[str, Any] = {}
    map_paths(lambda path, leaf: found.update({path: leaf}), tree)
    return found


def encode(record: Record) -> bytes:
    """JSON, with the format and a hash of all of it."""
    # As it will be read: tuples become lists, and keys strings.
    fields = json.loads(json.dumps({"format": FORMAT, **record._asdict()}))
    return json.dumps(fields | {_HASH: _hash(fields)}).encode()


def decode(content: bytes) -> Record:
    """The reverse of `encode`. Raises Damaged, or OtherFormat where another version wrote it."""
    try:
        fields = json.loads(content)
    except ValueError:
        raise Damaged("its record is no JSON") from None
    # The first format, before this one had a number, was the caller's value alone.
    if isinstance(fields, dict) and "config" in fields and not fields.keys() & {"format", _HASH}:
        raise OtherFormat
    if not isinstance(fields, dict) or fields.pop(_HASH, None) != _hash(fields):
        raise Damaged("the hash of its record differs")
    if fields["format"] != FORMAT:
        raise OtherFormat
    arrays = {
        path: ArrayRecord(tuple(shape), dtype, checksum)
        for path, (shape, dtype, checksum) in fields["arrays"].items()
    }
    return Record(fields["run"], fields["metrics"], arrays)


def check_architecture(where: str, saved: dict[str, ArrayRecord], like: PyTree) -> None:
    """Raises InputError naming the first array whose shape or type `like` has otherwise."""
    wanted = {path: (tuple(leaf.shape), str(leaf.dtype)) for path, leaf in by_path(like).items()}
    parts = {path.split("/")[0] for path in wanted}
    there = {p: (a.shape, a.dtype) for p, a in saved.items() if p.split("/")[0] in parts}
    # Parameters first: where they differ, so does the optimizer, which says less.
    for path in sorted(there.keys() | wanted.keys(), key=lambda p: (not p.startswith("params"), p)):
        old, new = there.get(path), wanted.get(path)
        if old != new:
            has_type = bool(old and new) and old[0] == new[0]
            part, _, name = path.partition("/")
            section = "model" if part == "params" else "optimizer"
            raise InputError(
                f"{where} is of another architecture: {name} is {_show(old, has_type)} there and"
                f" {_show(new, has_type)} here; set config.{section} as it was."
            )


def _show(array: tuple[tuple[int, ...], str] | None, has_type: bool) -> str:
    if array is None:
        return "missing"
    shape = " x ".join(map(str, array[0])) or "a scalar"
    return f"{shape} {array[1]}" if has_type else shape


def _hash(fields: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
