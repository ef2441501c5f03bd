"""Hugging Face's config.json, and the original's bert_config.json, both ways."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bert_jax.config import ModelConfig
from bert_jax.errors import InputError
from bert_jax.fields import build

CONFIG = "config.json"
ORIGINAL_CONFIG = "bert_config.json"
# The fields of ModelConfig as they are called there, with the values of BertConfig: files
# leave out what has its value.
FIELDS: dict[str, tuple[str, Any]] = {
    "vocab_size": ("vocab_size", 30522),
    "positions": ("max_position_embeddings", 512),
    "segment_types": ("type_vocab_size", 2),
    "width": ("hidden_size", 768),
    "layers": ("num_hidden_layers", 12),
    "heads": ("num_attention_heads", 12),
    "feed_forward": ("intermediate_size", 3072),
    "layer_norm_epsilon": ("layer_norm_eps", 1e-12),
    "init_stddev": ("initializer_range", 0.02),
    "dropout": ("hidden_dropout_prob", 0.1),
    "attention_dropout": ("attention_probs_dropout_prob", 0.1),
}
# How it is computed is for the run to say that goes on with it.
COMPUTED = {
    "attention": "auto",
    "compute_dtype": "float32",
    "remat": "none",
    "scan_layers": False,
}
GELU = {"gelu": "erf", "gelu_new": "tanh", "gelu_pytorch_tanh": "tanh"}
# What a model of each class must have; of several that fit, the first, but a model that chooses
# is told by MULTIPLE_CHOICE.
CLASSES: dict[str, tuple[str, ...]] = {
    "BertForSequenceClassification": ("pooler", "classifier"),
    "BertForTokenClassification": ("tagger",),
    "BertForQuestionAnswering": ("span",),
    "BertForPreTraining": ("pooler", "mlm", "next"),
    "BertForMaskedLM": ("mlm",),
    "BertForNextSentencePrediction": ("pooler", "next"),
    "BertForMultipleChoice": ("pooler", "classifier"),
    "BertModel": (),
}
# In the place of a problem_type, which such a model has not, nor labels: its one output rates a
# choice.
MULTIPLE_CHOICE = "multiple_choice"
CHOICE = ("choice",)
# Each must be as said, or not be said: else the numbers would come out otherwise.
PLAIN = {
    "position_embedding_type": ("absolute",),
    "is_decoder": (False,),
    "add_cross_attention": (False,),
    "pruned_heads": ({},),
}


@dataclass(frozen=True)
class Architecture:
    """What a config.json says of a model."""

    file: Path
    model: ModelConfig
    modules: tuple[str, ...]  # that its class has, beside the encoder
    labels: tuple[str, ...]  # of the classifier, in the order of its logits
    problem: str  # "" where one of the labels is right

    @property
    def classes(self) -> int:
        """How many labels there are."""
        return len(self.labels)

    @property
    def other_classifier(self) -> str:
        """Of the two modules whose tensors are called classifier, the one it has not."""
        return "classifier" if "tagger" in self.modules else "tagger"


def read(path: Path, *, is_original: bool) -> Architecture:
    """`is_original`: the weights are the original release's, whose "gelu" is the tanh form.

    Raises InputError where this is not the BERT that there is here.
    """
    values = _values(path)
    model_type = values.get("model_type", "bert")
    if model_type != "bert":
        raise InputError(
            f"{path}: model_type {model_type!r} is not supported, only 'bert' is: give a BERT."
        )
    for name, known in PLAIN.items():
        if name in values and values[name] not in known:
            raise InputError(
                f"{path}: {name} {values[name]!r} is not supported, only {known[0]!r} is:"
                " give a model that has it."
            )
    found = {ours: values.get(theirs, default) for ours, (theirs, default) in FIELDS.items()}
    gelu = _gelu(values.get("hidden_act", "gelu"), path)
    found["gelu"] = "tanh" if is_original else gelu
    chooses = values.get("architectures") == ["BertForMultipleChoice"]
    return Architecture(
        file=path,
        model=_model({**found, **COMPUTED}, path),
        modules=_modules(values.get("architectures"), path),
        labels=CHOICE if chooses else _labels(values, path),
        problem=MULTIPLE_CHOICE if chooses else _problem(values, path),
    )


def write(
    directory: Path,
    model: ModelConfig,
    kind: str,
    *,
    labels: tuple[str, ...],
    problem: str,
    pad: int,
) -> None:
    """Writes the config.json of a model of the class `kind`; `labels` = () where it has none."""
    values: dict[str, Any] = {"architectures": [kind], "model_type": "bert"}
    values |= {theirs: getattr(model, ours) for ours, (theirs, _) in FIELDS.items()}
    values["hidden_act"] = {"erf": "gelu", "tanh": "gelu_new"}[model.gelu]
    values |= {"pad_token_id": pad, "position_embedding_type": "absolute", "dtype": "float32"}
    if labels and problem != MULTIPLE_CHOICE:
        values["id2label"] = dict(enumerate(labels))
        values["label2id"] = {label: number for number, label in enumerate(labels)}
    if problem and problem != MULTIPLE_CHOICE:
        values["problem_type"] = problem
    text = json.dumps(values, indent=2, ensure_ascii=False)
    (directory / CONFIG).write_text(text + "\n", "utf-8")


def class_of(modules: tuple[str, ...], problem: str) -> str:
    """The class of Hugging Face that has these modules, for this kind of problem."""
    if problem == MULTIPLE_CHOICE:
        return "BertForMultipleChoice"
    return next(kind for kind, needed in CLASSES.items() if set(needed) <= set(modules))


def _values(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): name a file.") from error
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}): mend it.") from error
    if not isinstance(values, dict):
        raise InputError(f"{path} is not a JSON object: give the config.json of a model.")
    return values


def _model(values: dict[str, Any], path: Path) -> ModelConfig:
    try:
        return build(ModelConfig, values, "model")
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _gelu(name: Any, path: Path) -> str:
    if not isinstance(name, str) or name not in GELU:
        raise InputError(
            f"{path}: hidden_act {name!r} is not supported, only {', '.join(GELU)} are:"
            " give a model that has one of them."
        )
    return GELU[name]


def _modules(architectures: Any, path: Path) -> tuple[str, ...]:
    if not architectures:
        return ()
    if not isinstance(architectures, list):
        raise InputError(
            f"{path}: architectures must be a list of names, not {architectures!r}: mend it."
        )
    kind = str(architectures[0]).removeprefix("TF")
    if kind not in CLASSES:
        raise InputError(
            f"{path}: architecture {kind!r} is not supported, only {', '.join(CLASSES)} are:"
            " give a model of one of them."
        )
    return CLASSES[kind]


def _labels(values: dict[str, Any], path: Path) -> tuple[str, ...]:
    named = values.get("id2label")
    if not named:
        count = values.get("num_labels", 2)
        if type(count) is not int or count < 0:
            raise InputError(f"{path}: num_labels must be a whole number, not {count!r}: mend it.")
        named = {number: f"LABEL_{number}" for number in range(count)}
    try:
        by_number = {int(number): str(label) for number, label in named.items()}
        labels = tuple(by_number[number] for number in range(len(by_number)))
    except (AttributeError, KeyError, ValueError):
        raise InputError(
            f"{path}: id2label must give a name to every number from 0: mend it."
        ) from None
    if len(set(labels)) < len(labels):
        raise InputError(f"{path}: id2label gives one name to two numbers: rename one.")
    return labels


def _problem(values: dict[str, Any], path: Path) -> str:
    kind = values.get("problem_type") or ""
    if not isinstance(kind, str):
        raise InputError(f"{path}: problem_type must be a name, not {kind!r}: mend it.")
    return "" if kind == "single_label_classification" else kind
