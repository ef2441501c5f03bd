"""PyTorch's `pytorch_model.bin` without PyTorch: a pickle that may hold tensors and no more.

A pickle is a program. This reader knows the few names that a dict of tensors takes; any other
is refused before anything of it runs. Both formats of `torch.save` are read: the zip archive,
and the plain stream of PyTorch before 1.6.
"""

import io
import math
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NamedTuple

import ml_dtypes
import numpy as np
from jaxtyping import Shaped

from bert_jax.errors import InputError
from bert_jax.interchange.stored import Tensors, in_memory, reading

# First of the plain stream: what it is, and the version of its protocol.
MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
# The element type of each storage.
STORAGES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
# What a pickle that is not whole, or not of tensors, may make the reader raise.
DAMAGE = (pickle.UnpicklingError, EOFError, zipfile.BadZipFile, KeyError, IndexError, ValueError,
          TypeError, AttributeError, struct.error, UnicodeDecodeError)  # fmt: skip


class StorageType(NamedTuple):
    """What stands in the pickle where PyTorch has a class such as FloatStorage."""

    name: str


class Storage:
    """Numbers in a row, which several tensors may share; in a plain stream they come last."""

    def __init__(self, kind: StorageType, elements: int):
        self.kind = kind
        self.elements = elements
        self.numbers: np.ndarray | None = None

    @property
    def size(self) -> int:
        """In bytes."""
        return self.elements * np.dtype(STORAGES[self.kind.name]).itemsize

    def fill(self, content: bytes) -> None:
        """Raises ValueError where these are too few bytes."""
        if len(content) != self.size:
            raise ValueError(f"{len(content)} bytes where there should be {self.size}")
        self.numbers = np.frombuffer(content, STORAGES[self.kind.name])


class Tensor(NamedTuple):
    """A view of a storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in elements

    def array(self) -> Shaped[np.ndarray, "..."]:
        """Raises ValueError where the view goes outside its storage."""
        numbers = self.storage.numbers
        if numbers is None:
            raise ValueError("a storage without numbers")
        if min((self.offset, *self.shape, *self.strides), default=0) < 0:
            raise ValueError("a tensor with negative sizes")
        last = sum((n - 1) * step for n, step in zip(self.shape, self.strides, strict=True))
        if math.prod(self.shape) and self.offset + last >= len(numbers):
            raise ValueError("a tensor that goes outside its storage")
        return np.lib.stride_tricks.as_strided(
            numbers[self.offset :],
            self.shape,
            [step * numbers.itemsize for step in self.strides],
            writeable=False,
        )


class TensorUnpickler(pickle.Unpickler):
    """Admits dicts of tensors; the first other name ends the reading with an InputError."""

    def __init__(
        self,
        file: IO[bytes] | io.BytesIO,
        path: Path,
        load: Callable[[tuple[Any, ...]], Storage],
    ):
        super().__init__(file, encoding="utf-8")
        self._path = path
        self._load = load

    def find_class(self, module: str, name: str) -> Any:
        """What a name in the pickle stands for."""
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return _rebuild_parameter
        if module == "torch" and name in STORAGES:
            return StorageType(name)
        raise InputError(
            f"{self._path} is a pickle that wants {module}.{name}, and only tensors are taken from"
            " a pickle: a file that runs code may do anything; give a state dict, or safetensors."
        )

    def persistent_load(self, pid: Any) -> Storage:
        """A storage, which stands outside of the pickle."""
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage":
            raise ValueError("something other than tensors outside of the pickle")
        return self._load(pid[1:])


def read(path: Path) -> Tensors:
    """Every tensor of a state dict; other values in it are of no use here."""
    with reading(path, *DAMAGE):
        found = _from_zip(path) if zipfile.is_zipfile(path) else _from_stream(path)
        # Training scripts put the state dict beside other things.
        for name in ("state_dict", "model_state_dict", "model"):
            if isinstance(found, dict) and isinstance(found.get(name), dict):
                found = found[name]
                break
        if not isinstance(found, dict):
            raise InputError(f"{path} is no state dict: save model.state_dict().")
        tensors = {str(k): v.array() for k, v in found.items() if isinstance(v, Tensor)}
    return {name: in_memory(name, array) for name, array in tensors.items()}


def zip_storages(archive: zipfile.ZipFile, root: str) -> Callable[[tuple[Any, ...]], Storage]:
    """What finds the storages of an archive: each is a file of its own."""
    known: dict[str, Storage] = {}

    def load(pid: tuple[Any, ...]) -> Storage:
        kind, key, _, elements = pid[:4]
        if key not in known:
            known[key] = Storage(kind, elements)
            known[key].fill(archive.read(f"{root}data/{key}"))
        return known[key]

    return load


def pickle_in(archive: zipfile.ZipFile) -> str:
    """The name of the archive's pickle. Raises KeyError where there is none."""
    for name in archive.namelist():
        if name == "data.pkl" or (name.endswith("/data.pkl") and name.count("/") == 1):
            return name
    raise KeyError("no data.pkl")


def _from_zip(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        name = pickle_in(archive)
        load = zip_storages(archive, name.removesuffix("data.pkl"))
        return TensorUnpickler(io.BytesIO(archive.read(name)), path, load).load()


def _from_stream(path: Path) -> Any:
    storages: dict[str, Storage] = {}

    def load(pid: tuple[Any, ...]) -> Storage:
        kind, key, _, elements, *view = pid
        if any(view):
            raise ValueError("a storage that is a view of another")
        return storages.setdefault(key, Storage(kind, elements))

    with path.open("rb") as file:
        if TensorUnpickler(file, path, load).load() != MAGIC:
            raise InputError(f"{path} is no file that torch.save has written: save a state dict.")
        protocol, _, found, keys = (TensorUnpickler(file, path, load).load() for _ in range(4))
        if protocol != PROTOCOL:
            raise ValueError(f"protocol {protocol}")
        for key in keys:
            (elements,) = struct.unpack("<q", file.read(8))
            if elements != storages[key].elements:
                raise ValueError(f"storage {key} of another size")
            storages[key].fill(file.read(storages[key].size))
    return found


def _rebuild_tensor(storage: Storage, offset: int, shape: Any, strides: Any, *_: Any) -> Tensor:
    return Tensor(storage, offset, tuple(shape), tuple(strides))


def _rebuild_parameter(data: Tensor, *_: Any) -> Tensor:
    return data
