"""What sentence-transformers says beside the weights: how a text becomes one vector, both ways."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from bert_jax import workdir as wd
from bert_jax.errors import InputError
from bert_jax.interchange.stored import reading
from bert_jax.text.pieces import SETTINGS_FILE

MODULES = "modules.json"
TRANSFORMER = "sentence_bert_config.json"
PARTS = ("Transformer", "Pooling", "Normalize")  # the last where vectors have length 1
LENGTHS = {TRANSFORMER: "max_seq_length", SETTINGS_FILE: "model_max_length"}  # best first
# Version 5 writes a name; before it, each had a switch.
SWITCHES = {
    "cls": "pooling_mode_cls_token",
    "mean": "pooling_mode_mean_tokens",
    "max": "pooling_mode_max_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}
POOLINGS = ("cls", "mean")  # that there are here
ALONE = f"move {MODULES} away to convert the encoder alone."


class SentenceVectors(NamedTuple):
    """How the vectors are made that a model was trained for."""

    pooling: str  # one of POOLINGS
    normalise: bool  # to length 1

    @property
    def flags(self) -> str:
        """What makes them here."""
        return f"--embed={self.pooling}" + (" --normalise" if self.normalise else "")


def read(directory: Path) -> SentenceVectors | None:
    """None where nothing is said of vectors. Raises InputError where there are no such here."""
    path = directory / MODULES
    if not path.is_file():
        return None
    parts = _json(path)
    with reading(path, KeyError, TypeError):
        kinds = tuple(str(part["type"]).split(".")[-1] for part in parts)
        folders = [directory / str(part["path"]) for part in parts]
    if kinds == PARTS[:1]:
        return None  # a classifier's
    if kinds not in (PARTS[:2], PARTS):
        raise InputError(
            f"{path} makes vectors by {', '.join(kinds)}, and only {', '.join(PARTS)} are known,"
            f" with or without the last: {ALONE}"
        )
    _check_case(directory)
    return SentenceVectors(_pooling(folders[1] / "config.json"), normalise=kinds == PARTS)


def max_length(directory: Path) -> int | None:
    """The most tokens of a text that are looked at; None where that is not said."""
    for name, field in LENGTHS.items():
        path = directory / name
        length = _object(path).get(field) if path.is_file() else None
        if length is None:
            continue
        if type(length) is not int or length < 8:
            raise InputError(
                f"{path}: {field} must be a number from 8 on, not {length!r}: mend it."
            )
        return length
    return None


def write(vectors: SentenceVectors, directory: Path, *, width: int, length: int) -> None:
    """As every version of the library reads it."""
    kinds = PARTS if vectors.normalise else PARTS[:2]
    folders = ["", *(f"{n}_{kind}" for n, kind in enumerate(kinds) if n)]
    modules = [
        {"idx": n, "name": str(n), "path": folder, "type": f"sentence_transformers.models.{kind}"}
        for n, (kind, folder) in enumerate(zip(kinds, folders, strict=True))
    ]
    for folder in folders[1:]:
        (directory / folder).mkdir()
    pooling = {switch: name == vectors.pooling for name, switch in SWITCHES.items()}
    files: dict[str, Any] = {
        MODULES: modules,
        TRANSFORMER: {"max_seq_length": length, "do_lower_case": False},
        f"{folders[1]}/config.json": {"word_embedding_dimension": width, **pooling},
    }
    for name, values in files.items():
        wd.write_json(directory / name, values)


def _check_case(directory: Path) -> None:
    """sentence-transformers may make a text small before the tokenizer gets it."""
    files = (directory / TRANSFORMER, directory / SETTINGS_FILE)
    lower, tokenizer = (_object(path) if path.is_file() else {} for path in files)
    if lower.get("do_lower_case") and tokenizer.get("do_lower_case") is False:
        raise InputError(
            f"{files[0]} makes texts small and the tokenizer of {files[1]} does not: set"
            f" do_lower_case to true in {SETTINGS_FILE}, or {ALONE}"
        )


def _pooling(path: Path) -> str:
    said = _object(path)
    modes = said.get("pooling_mode")
    if modes is None:
        modes = [name for name, switch in SWITCHES.items() if said.get(switch)] or ["mean"]
    names = [str(mode) for mode in (modes if isinstance(modes, list) else [modes])]
    if len(names) != 1 or names[0] not in POOLINGS:
        raise InputError(
            f"{path} makes vectors by {' and '.join(names)}, and there are only"
            f" {' or '.join(POOLINGS)} here: {ALONE}"
        )
    return names[0]


def _object(path: Path) -> dict[str, Any]:
    values = _json(path)
    if not isinstance(values, dict):
        raise InputError(f"{path} is not a JSON object: fetch it again.")
    return values


def _json(path: Path) -> Any:
    with reading(path, ValueError):
        return json.loads(path.read_text("utf-8"))
