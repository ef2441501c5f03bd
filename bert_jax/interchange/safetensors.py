"""Files of the safetensors format, whole or in shards, both ways."""

import functools
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401  (gives numpy a bfloat16, which safe_open asks for by name)
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from bert_jax.interchange.stored import Stored, Tensors, reading

WEIGHTS = "model.safetensors"


def read(path: Path) -> Tensors:
    """Every tensor of one file; the numbers stay on the disk until they are wanted."""
    with reading(path, SafetensorError), safe_open(path, framework="np") as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    return {
        name: Stored(name, shape, functools.partial(_read_one, path, name))
        for name, shape in shapes.items()
    }


def write(directory: Path, tensors: dict[str, np.ndarray]) -> None:
    """One file that PyTorch's readers take for their own."""
    try:
        save_file(tensors, directory / WEIGHTS, metadata={"format": "pt"})
    except SafetensorError as error:  # what the disk has against it, in words
        raise OSError(str(error)) from error
    (directory / WEIGHTS).chmod(0o644)  # as any other file


def _read_one(path: Path, name: str) -> Any:
    with reading(path, SafetensorError), safe_open(path, framework="np") as file:
        return file.get_tensor(name)
