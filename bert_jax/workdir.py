"""What stands in a workdir beside the checkpoints: the resolved config, and whole files only."""

import base64
import dataclasses
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bert_jax.errors import InputError

CONFIG = "config.json"
TOKENIZER = "tokenizer"


def write_bytes(path: Path, content: bytes) -> None:
    """Writes the file whole or not at all, whenever the process is killed."""
    # A name of its own: several hosts may write the same file of one workdir.
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".partial-{path.name}-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(partial, 0o644)
        os.replace(partial, path)
    except BaseException:
        os.unlink(partial)
        raise


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8, whole or not at all."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Indented JSON, Chinese as it is, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def open_workdir(
    workdir: str | Path,
    config: Any,
    *,
    is_begun: bool,
    may_change: tuple[str, ...] = (),
    writes: bool = True,
) -> Path:
    """Makes the directory and leaves the resolved config in it; without `writes` only checks.

    A directory that holds results (`is_begun`) of another config is refused, naming the
    first field that differs: results of two configs must not mix. Fields named in
    `may_change` ("section.field") may differ.
    """
    directory = Path(workdir).absolute()
    try:
        if writes:
            directory.mkdir(parents=True, exist_ok=True)
        elif not directory.is_dir():
            raise InputError(
                f"--workdir={workdir} is not there, where another process has made its own: name"
                " one directory that all hosts share."
            )
        resolved = json.loads(json.dumps(dataclasses.asdict(config)))
        if is_begun and (directory / CONFIG).exists():
            _refuse_changes(directory, resolved, may_change)
        if writes:
            write_json(directory / CONFIG, resolved)
    except OSError as error:
        raise InputError(
            f"--workdir={workdir} cannot be written ({error.strerror}): choose another directory."
        ) from None
    return directory


def read_config(workdir: str | Path) -> dict[str, Any]:
    """The resolved config of a run, or an InputError that says what is missing."""
    path = Path(workdir) / CONFIG
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"{workdir} is not the workdir of a run ({CONFIG} is missing):"
            " name a directory that prepare, pretrain or finetune has written."
        ) from None
    except ValueError:
        raise InputError(f"{path} is not valid JSON: run the stage again.") from None


def read_files(directory: Path) -> dict[str, str]:
    """The files of a directory by name, base64-coded: how a tokenizer enters a checkpoint."""
    files = sorted(path for path in directory.iterdir() if path.is_file())
    return {path.name: base64.b64encode(path.read_bytes()).decode("ascii") for path in files}


def write_files(directory: Path, files: dict[str, str]) -> None:
    """The reverse of `read_files`."""
    for name, content in files.items():
        (directory / Path(name).name).write_bytes(base64.b64decode(content))


def _refuse_changes(directory: Path, new: dict[str, Any], may_change: tuple[str, ...]) -> None:
    old = dict(_flat(read_config(directory)))
    for name, value in _flat(new):
        if name not in may_change and old.get(name) != value:
            raise InputError(
                f"--workdir={directory} holds a run with config.{name}={old.get(name)!r}, and this"
                f" one has {value!r}: use a new --workdir, or delete the old one."
            )


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
