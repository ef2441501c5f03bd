"""The one table of names: every parameter here, and in PyTorch files of Hugging Face.

A kernel here is (in, out), with the heads apart; a weight there is (out, in). So theirs is
ours reshaped and transposed, and a table, a bias or a scale the same numbers in both.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Shaped

from bert_jax.config import ModelConfig

Params = dict[str, np.ndarray]  # by path, `encoder/layer_0/attention/query/kernel`


class Row(NamedTuple):
    """A parameter by its two names and shapes; `{n}` is the layer."""

    ours: str
    shape: str  # letters as in arrays.py, and N positions, G segment types
    theirs: str
    their_shape: str

    @property
    def module(self) -> str:
        """What it is a part of: the encoder, the pooler or a head."""
        return self.ours.split("/")[0]


EMBEDDINGS = (
    Row("encoder/embeddings/token", "V D", "bert.embeddings.word_embeddings.weight", "V D"),
    Row("encoder/embeddings/position", "N D", "bert.embeddings.position_embeddings.weight", "N D"),
    Row("encoder/embeddings/segment", "G D", "bert.embeddings.token_type_embeddings.weight", "G D"),
    Row("encoder/embeddings/norm/scale", "D", "bert.embeddings.LayerNorm.weight", "D"),
    Row("encoder/embeddings/norm/bias", "D", "bert.embeddings.LayerNorm.bias", "D"),
)
# Below `encoder/layer_{n}/` and `bert.encoder.layer.{n}.`.
LAYER = (
    Row("attention/query/kernel", "D H K", "attention.self.query.weight", "D D"),
    Row("attention/query/bias", "H K", "attention.self.query.bias", "D"),
    Row("attention/key/kernel", "D H K", "attention.self.key.weight", "D D"),
    Row("attention/key/bias", "H K", "attention.self.key.bias", "D"),
    Row("attention/value/kernel", "D H K", "attention.self.value.weight", "D D"),
    Row("attention/value/bias", "H K", "attention.self.value.bias", "D"),
    Row("attention/output/kernel", "H K D", "attention.output.dense.weight", "D D"),
    Row("attention/output/bias", "D", "attention.output.dense.bias", "D"),
    Row("attention_norm/scale", "D", "attention.output.LayerNorm.weight", "D"),
    Row("attention_norm/bias", "D", "attention.output.LayerNorm.bias", "D"),
    Row("feed_forward/intermediate/kernel", "D F", "intermediate.dense.weight", "F D"),
    Row("feed_forward/intermediate/bias", "F", "intermediate.dense.bias", "F"),
    Row("feed_forward/output/kernel", "F D", "output.dense.weight", "D F"),
    Row("feed_forward/output/bias", "D", "output.dense.bias", "D"),
    Row("feed_forward_norm/scale", "D", "output.LayerNorm.weight", "D"),
    Row("feed_forward_norm/bias", "D", "output.LayerNorm.bias", "D"),
)
HEADS = (
    Row("pooler/dense/kernel", "D D", "bert.pooler.dense.weight", "D D"),
    Row("pooler/dense/bias", "D", "bert.pooler.dense.bias", "D"),
    Row("mlm/dense/kernel", "D D", "cls.predictions.transform.dense.weight", "D D"),
    Row("mlm/dense/bias", "D", "cls.predictions.transform.dense.bias", "D"),
    Row("mlm/norm/scale", "D", "cls.predictions.transform.LayerNorm.weight", "D"),
    Row("mlm/norm/bias", "D", "cls.predictions.transform.LayerNorm.bias", "D"),
    Row("mlm/bias", "V", "cls.predictions.bias", "V"),
    Row("next/dense/kernel", "D 2", "cls.seq_relationship.weight", "2 D"),
    Row("next/dense/bias", "2", "cls.seq_relationship.bias", "2"),
    # Classes of a text and classes of a token have one name there: the config tells them apart.
    Row("classifier/dense/kernel", "D C", "classifier.weight", "C D"),
    Row("classifier/dense/bias", "C", "classifier.bias", "C"),
    Row("tagger/dense/kernel", "D C", "classifier.weight", "C D"),
    Row("tagger/dense/bias", "C", "classifier.bias", "C"),
    Row("span/dense/kernel", "D 2", "qa_outputs.weight", "2 D"),
    Row("span/dense/bias", "2", "qa_outputs.bias", "2"),
)
# In the order in which they are written and printed.
MODULES = ("encoder", "pooler", "mlm", "next", "classifier", "tagger", "span")

# Not read: what they hold is known without them.
BUFFERS = ("bert.embeddings.position_ids", "bert.embeddings.token_type_ids")
# The MLM decoder is the token table once more, and its bias that of the head: parameters here.
TIED = {
    "cls.predictions.decoder.weight": "encoder/embeddings/token",
    "cls.predictions.decoder.bias": "mlm/bias",
}


def rows(layers: int, modules: tuple[str, ...]) -> list[Row]:
    """Every parameter of these modules, in order."""
    whole = list(EMBEDDINGS)
    for n in range(layers):
        for row in LAYER:
            ours, theirs = f"encoder/layer_{n}/{row.ours}", f"bert.encoder.layer.{n}.{row.theirs}"
            whole.append(row._replace(ours=ours, theirs=theirs))
    whole += HEADS
    return [row for row in whole if row.module in modules]


def size_of(shape: str, model: ModelConfig, classes: int) -> tuple[int, ...]:
    """A shape in letters as numbers."""
    sizes = {
        "V": model.vocab_size,
        "N": model.positions,
        "G": model.segment_types,
        "D": model.width,
        "H": model.heads,
        "K": model.width // model.heads,
        "F": model.feed_forward,
        "C": classes,
        "2": 2,
    }
    return tuple(sizes[letter] for letter in shape.split())


def to_ours(
    array: Shaped[np.ndarray, "..."], row: Row, shape: tuple[int, ...]
) -> Shaped[np.ndarray, "..."]:
    """Their array in the layout it has here, `shape`."""
    return np.ascontiguousarray((array.T if _is_kernel(row) else array).reshape(shape))


def to_theirs(
    array: Shaped[np.ndarray, "..."], row: Row, shape: tuple[int, ...]
) -> Shaped[np.ndarray, "..."]:
    """The reverse of `to_ours`; `shape` is theirs."""
    turned = array.reshape(shape[::-1]).T if _is_kernel(row) else array.reshape(shape)
    return np.ascontiguousarray(turned)


def canonical(name: str, prefix: str) -> str:
    """A PyTorch name as the table has it: `bert.` put in front, gamma and beta renamed.

    `prefix` stands before `embeddings.` in this file: "bert.", "", "model.", ... A tensor that
    lies outside of the model so found gets a name that is in no table.
    """
    for old, new in ((".gamma", ".weight"), (".beta", ".bias")):
        if name.endswith(old):
            name = name.removesuffix(old) + new
    below = name.removeprefix(prefix)
    if name.startswith(prefix) and below.startswith(("embeddings.", "encoder.", "pooler.")):
        return f"bert.{below}"
    outer = prefix.removesuffix("bert.")
    return name.removeprefix(outer) if name.startswith(outer) else f"/{name}"


def prefix_of(names: list[str]) -> str | None:
    """What stands before `embeddings.` in these names; None where there is no BERT."""
    end = "embeddings.word_embeddings.weight"
    found = [name.removesuffix(end) for name in names if name.endswith(end)]
    return min(found, key=len) if found else None


def _is_kernel(row: Row) -> bool:
    return row.ours.endswith("/kernel")
