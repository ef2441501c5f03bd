"""Checkpoints of the original release, `bert_model.ckpt.*`: the only file that needs TensorFlow."""

import functools
import re
from pathlib import Path
from typing import Any

from bert_jax.errors import InputError
from bert_jax.interchange.stored import Stored, Tensors, reading

INDEX = ".index"
# Heads of the original's scripts, which it names otherwise than the layers.
HEADS = {
    "cls/predictions/output_bias": "cls.predictions.bias",
    "cls/seq_relationship/output_weights": "cls.seq_relationship.weight",
    "cls/seq_relationship/output_bias": "cls.seq_relationship.bias",
    "output_weights": "classifier.weight",
    "output_bias": "classifier.bias",
    "cls/squad/output_weights": "qa_outputs.weight",
    "cls/squad/output_bias": "qa_outputs.bias",
}


def read(path: Path) -> Tensors:
    """Every variable under its PyTorch name; `path` is the checkpoint's, without `.index`.

    Raises InputError where TensorFlow is not installed.
    """
    try:
        import tensorflow as tf  # an extra, and seconds to import
    except ImportError as error:
        raise InputError(
            f"{path} cannot be read without TensorFlow: pip install tensorflow-cpu."
        ) from error
    with reading(path, tf.errors.OpError, ValueError):
        checkpoint = tf.train.load_checkpoint(str(path))
        shapes = checkpoint.get_variable_to_shape_map()
    found: Tensors = {}
    for name, shape in shapes.items():
        known, is_kernel = translate(name)
        shape = tuple(shape[::-1] if is_kernel else shape)
        read_one = functools.partial(_read_one, checkpoint, path, name, is_kernel)
        found[known] = Stored(name, shape, read_one)
    return found


def translate(name: str) -> tuple[str, bool]:
    """The PyTorch name of a variable, and whether it lies the other way round there."""
    if name in HEADS:
        return HEADS[name], False
    known = re.sub(r"layer_(\d+)", r"layer.\1", name).replace("/", ".")
    if known.endswith("_embeddings"):
        return f"{known}.weight", False
    is_kernel = known.endswith(".kernel")
    return re.sub(r"\.kernel$", ".weight", known), is_kernel


def _read_one(checkpoint: Any, path: Path, name: str, is_kernel: bool) -> Any:
    import tensorflow as tf

    with reading(path, tf.errors.OpError, ValueError):
        array = checkpoint.get_tensor(name)
    return array.T if is_kernel else array
