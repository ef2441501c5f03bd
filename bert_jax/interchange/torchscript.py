"""The tensors of a TorchScript archive (`torch.jit.save`), without its program."""

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bert_jax.interchange.pickled import DAMAGE, Tensor, TensorUnpickler, pickle_in, zip_storages
from bert_jax.interchange.stored import Tensors, in_memory, reading


class Module:
    """Stands for any class of the archive's own program: what is set on it is kept, no more."""


class _ModuleUnpickler(TensorUnpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module == "__torch__" or module.startswith("__torch__."):
            return Module
        # Lists of numbers among the attributes of modules.
        if module == "torch.jit._pickle" and name.startswith("build_"):
            return list
        return super().find_class(module, name)


def is_archive(path: Path) -> bool:
    """Whether there is a program beside the tensors."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.split("/")[1:] == ["constants.pkl"] for name in archive.namelist())


def read(path: Path) -> Tensors:
    """Every parameter and buffer by its path among the modules."""
    with reading(path, *DAMAGE), zipfile.ZipFile(path) as archive:
        name = pickle_in(archive)
        load = zip_storages(archive, name.removesuffix("data.pkl"))
        root = _ModuleUnpickler(io.BytesIO(archive.read(name)), path, load).load()
        tensors = {name: tensor.array() for name, tensor in _walk(root, "")}
    return {name: in_memory(name, array) for name, array in tensors.items()}


def _walk(module: Any, prefix: str) -> Iterator[tuple[str, Tensor]]:
    for name, value in vars(module).items():
        if isinstance(value, Tensor):
            yield f"{prefix}{name}", value
        elif isinstance(value, Module):
            yield from _walk(value, f"{prefix}{name}.")
