"""Models as others write them, made by hand: names, files and a forward pass in their layout.

Nothing here knows the package's table of names: Hugging Face's PyTorch names are spelled out,
and the pickles of PyTorch are written opcode by opcode.
"""

import json
import pickle
import struct
import zipfile

import numpy as np
from numerics import numpy_bert

SIZES = dict(vocab_size=24, positions=16, segments=2, width=12, layers=2, heads=3, feed_forward=20)
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
# Two fewer than the table has rows.
PIECES = (*SPECIAL, *"abcdefghijkl", "##a", "##b", "ab", "好", "中")
LABELS = ("bad", "good", "so so")
CLASSES = len(LABELS)
HEADS = ("pooler", "mlm", "next", "classifier", "span")
RECORD = "model"  # the folder in an archive of torch.save


def tensors(*heads, prefix="bert.", seed=0, classes=CLASSES, **changes):
    """Random weights of an encoder with these heads, by Hugging Face's names."""
    size = {**SIZES, **changes}
    width, hidden, pieces = size["width"], size["feed_forward"], size["vocab_size"]
    norm = {"LayerNorm.weight": (width,), "LayerNorm.bias": (width,)}

    def dense(name, outputs, inputs):
        return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}

    shapes = {
        "embeddings.word_embeddings.weight": (pieces, width),
        "embeddings.position_embeddings.weight": (size["positions"], width),
        "embeddings.token_type_embeddings.weight": (size["segments"], width),
        **{f"embeddings.{name}": shape for name, shape in norm.items()},
    }
    for n in range(size["layers"]):
        parts = {
            **dense("attention.self.query", width, width),
            **dense("attention.self.key", width, width),
            **dense("attention.self.value", width, width),
            **dense("attention.output.dense", width, width),
            **{f"attention.output.{name}": shape for name, shape in norm.items()},
            **dense("intermediate.dense", hidden, width),
            **dense("output.dense", width, hidden),
            **{f"output.{name}": shape for name, shape in norm.items()},
        }
        shapes |= {f"encoder.layer.{n}.{name}": shape for name, shape in parts.items()}
    if "pooler" in heads:
        shapes |= dense("pooler.dense", width, width)
    shapes = {f"{prefix}{name}": shape for name, shape in shapes.items()}
    if "mlm" in heads:
        shapes |= dense("cls.predictions.transform.dense", width, width)
        shapes |= {f"cls.predictions.transform.{name}": shape for name, shape in norm.items()}
        shapes |= {"cls.predictions.bias": (pieces,)}
    if "next" in heads:
        shapes |= dense("cls.seq_relationship", 2, width)
    if "classifier" in heads:
        shapes |= dense("classifier", classes, width)
    if "span" in heads:
        shapes |= dense("qa_outputs", 2, width)
    rng = np.random.default_rng(seed)
    return {name: rng.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}


def config(kind="BertModel", **changes):
    """The config.json of `tensors`."""
    return {
        "architectures": [kind],
        "model_type": "bert",
        "vocab_size": SIZES["vocab_size"],
        "max_position_embeddings": SIZES["positions"],
        "hidden_size": SIZES["width"],
        "num_hidden_layers": SIZES["layers"],
        "num_attention_heads": SIZES["heads"],
        "intermediate_size": SIZES["feed_forward"],
        "id2label": {str(n): label for n, label in enumerate(LABELS)},
        **changes,
    }


def write_description(directory, kind="BertModel", **changes):
    """config.json and vocab.txt."""
    directory.mkdir(parents=True, exist_ok=True)
    text = json.dumps(config(kind, **changes), ensure_ascii=False)
    (directory / "config.json").write_text(text, "utf-8")
    (directory / "vocab.txt").write_text("\n".join(PIECES) + "\n", "utf-8")
    return directory


# A forward pass in their layout, in float64: a weight is (out, in).


def _dense(t, name, x):
    return x @ t[f"{name}.weight"].T.astype(np.float64) + t[f"{name}.bias"]


def _norm(t, name, x):
    params = {"scale": t[f"{name}.LayerNorm.weight"], "bias": t[f"{name}.LayerNorm.bias"]}
    return numpy_bert.layer_norm(params, x)


def hidden(t, ids, *, form="erf", heads=SIZES["heads"], segments=0):
    """One vector a token of a text; `segments` of all of them or of each."""
    tables = (t[f"bert.embeddings.{name}_embeddings.weight"] for name in ("word", "position"))
    words, positions = (table.astype(np.float64) for table in tables)
    kinds = t["bert.embeddings.token_type_embeddings.weight"][segments]
    x = words[ids] + positions[: len(ids)] + kinds
    x = _norm(t, "bert.embeddings", x)
    n = 0
    while f"bert.encoder.layer.{n}.output.dense.bias" in t:
        layer = f"bert.encoder.layer.{n}"
        query, key, value = (
            _dense(t, f"{layer}.attention.self.{name}", x) for name in ("query", "key", "value")
        )
        size = x.shape[1] // heads
        mixed = np.empty_like(x)
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            for i in range(len(x)):
                scores = key[:, part] @ query[i, part] / np.sqrt(size)
                mixed[i, part] = numpy_bert.softmax(scores) @ value[:, part]
        x = _norm(
            t, f"{layer}.attention.output", x + _dense(t, f"{layer}.attention.output.dense", mixed)
        )
        inner = numpy_bert.gelu(_dense(t, f"{layer}.intermediate.dense", x), form)
        x = _norm(t, f"{layer}.output", x + _dense(t, f"{layer}.output.dense", inner))
        n += 1
    return x


def mlm_logits(t, x, form="erf"):
    """Over the vocabulary, for every token."""
    inner = numpy_bert.gelu(_dense(t, "cls.predictions.transform.dense", x), form)
    inner = _norm(t, "cls.predictions.transform", inner)
    return inner @ t["bert.embeddings.word_embeddings.weight"].T + t["cls.predictions.bias"]


def class_logits(t, x, name):
    """Of the pooled [CLS]; `name` is "classifier" or "cls.seq_relationship"."""
    return _dense(t, name, np.tanh(_dense(t, "bert.pooler.dense", x[0])))


def tag_logits(t, x):
    """Of every token."""
    return _dense(t, "classifier", x)


# Files of PyTorch, without PyTorch.


def _text(value):
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def _numbers(values):
    return b"(" + b"".join(b"J" + struct.pack("<i", value) for value in values) + b"t"


EMPTY = b"ccollections\nOrderedDict\n)R"


def _tensor(key, array, kind, extra=b"", offset=0, strides=None):
    steps = strides or [step // array.itemsize for step in array.strides]
    storage = b"(" + _text("storage") + b"ctorch\n" + kind.encode() + b"\n" + _text(key)
    storage += _text("cpu") + b"J" + struct.pack("<i", array.size) + extra + b"tQ"
    args = b"(" + storage + b"J" + struct.pack("<i", offset) + _numbers(array.shape)
    args += _numbers(steps) + b"\x89" + EMPTY + b"t"
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + args + b"R"


def state_dict_pickle(arrays, kind="FloatStorage", extra=b"", **view):
    """The pickle of a state dict; storage n is that of the n-th array."""
    items = b"".join(
        _text(name) + _tensor(str(n), array, kind, extra, **view)
        for n, (name, array) in enumerate(arrays.items())
    )
    return b"\x80\x02" + EMPTY + b"(" + items + b"u."


def write_torch(path, arrays, kind="FloatStorage", **view):
    """The archive of torch.save."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{RECORD}/data.pkl", state_dict_pickle(arrays, kind, **view))
        for n, array in enumerate(arrays.values()):
            archive.writestr(f"{RECORD}/data/{n}", array.tobytes())
    return path


def write_old_torch(path, arrays):
    """The stream of torch.save before PyTorch 1.6."""
    parts = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
    stream = b"".join(pickle.dumps(part, 2) for part in parts)
    stream += state_dict_pickle(arrays, extra=b"N")
    stream += pickle.dumps([str(n) for n in range(len(arrays))], 2)
    for array in arrays.values():
        stream += struct.pack("<q", array.size) + array.tobytes()
    path.write_bytes(stream)
    return path


def write_torchscript(path, arrays):
    """The archive of torch.jit.save: a tree of modules, and a program that nobody reads."""
    tree = {}
    for n, (name, array) in enumerate(arrays.items()):
        *modules, leaf = name.split(".")
        node = tree
        for module in modules:
            node = node.setdefault(module, {})
        node[leaf] = _tensor(str(n), array, "FloatStorage")

    def module(node):
        items = b"".join(
            _text(name) + (module(value) if isinstance(value, dict) else value)
            for name, value in node.items()
        )
        training = _text("training") + b"\x89"
        return b"c__torch__.model\nModel\n)\x81}(" + training + items + b"ub"

    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{RECORD}/data.pkl", b"\x80\x02" + module(tree) + b".")
        archive.writestr(f"{RECORD}/constants.pkl", pickle.dumps((), 2))
        archive.writestr(f"{RECORD}/code/__torch__/model.py", "import os")
        for n, array in enumerate(arrays.values()):
            archive.writestr(f"{RECORD}/data/{n}", array.tobytes())
    return path


def keras_name(name):
    """Where TensorFlow's Hugging Face models keep a tensor in tf_model.h5, and if transposed."""
    is_kernel = name.endswith(".weight") and not name.endswith(
        ("LayerNorm.weight", "_embeddings.weight")
    )
    layer = {"bert": "bert", "cls.predictions": "mlm___cls", "cls.seq": "nsp___cls"}
    group = next((v for k, v in layer.items() if name.startswith(k)), name.split(".")[0])
    parts = name.split(".")
    if parts[0] == "cls":
        parts[0] = group
    path = "/".join(parts).replace("layer/", "layer_._")
    if "LayerNorm" in path:
        path = path.replace("/weight", "/gamma").replace("/bias", "/beta")
    elif is_kernel:
        path = path.removesuffix("weight") + "kernel"
    elif "position" in path or "token_type" in path:
        path = path.removesuffix("weight") + "embeddings"
    return f"{group}/tf_bert_for_pre_training/{path}:0", is_kernel


def original_name(name):
    """The name of a variable in checkpoints of the original release, and if transposed."""
    special = {
        "cls.predictions.bias": "cls/predictions/output_bias",
        "cls.seq_relationship.weight": "cls/seq_relationship/output_weights",
        "cls.seq_relationship.bias": "cls/seq_relationship/output_bias",
        "classifier.weight": "output_weights",
        "classifier.bias": "output_bias",
        "qa_outputs.weight": "cls/squad/output_weights",
        "qa_outputs.bias": "cls/squad/output_bias",
    }
    if name in special:
        return special[name], False
    path = name.replace(".layer.", ".layer_").replace(".", "/")
    if "LayerNorm" in path:
        return path.replace("/weight", "/gamma").replace("/bias", "/beta"), False
    if "_embeddings" in path:
        return path.removesuffix("/weight"), False
    return path.replace("/weight", "/kernel"), path.endswith("weight")
