"""Keras files of Hugging Face's TensorFlow models, `tf_model.h5`."""

import functools
import re
from pathlib import Path
from typing import Any

from bert_jax.errors import InputError
from bert_jax.interchange.stored import Stored, Tensors, reading

DAMAGE = (OSError, KeyError, ValueError, RuntimeError)  # h5py's words for what is wrong


def read(path: Path) -> Tensors:
    """Every variable under its PyTorch name. Raises InputError where h5py is not installed."""
    try:
        import h5py  # here: few have such a file
    except ImportError as error:
        raise InputError(f"{path} cannot be read without h5py: pip install h5py.") from error
    found: Tensors = {}

    def add(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            known, is_kernel = translate(name)
            shape = tuple(item.shape[::-1] if is_kernel else item.shape)
            read_one = functools.partial(_read_one, path, name, is_kernel)
            found[known] = Stored(name, shape, read_one)

    with reading(path, *DAMAGE), h5py.File(path) as file:
        file.visititems(add)
    return found


def translate(name: str) -> tuple[str, bool]:
    """The PyTorch name of a variable, and whether it lies the other way round there.

    `bert/tf_bert_model/bert/encoder/layer_._0/output/dense/kernel:0`: the Keras layer that
    holds it, the model's name, then its place, where `___` parts an outer from an inner name
    and `_._` a list from its index.
    """
    _, _, *parts = name.removesuffix(":0").split("/")
    parts = [part.split("___")[-1] for part in parts]
    known = ".".join(parts).replace("_._", ".")
    is_kernel = known.endswith(".kernel")
    return re.sub(r"\.(kernel|embeddings)$", ".weight", known), is_kernel


def _read_one(path: Path, name: str, is_kernel: bool) -> Any:
    import h5py

    with reading(path, *DAMAGE), h5py.File(path) as file:
        array = file[name][()]
    return array.T if is_kernel else array
