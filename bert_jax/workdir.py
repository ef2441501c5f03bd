"""What stands in a workdir beside the checkpoints: the resolved config, and whole files only.

One run at a time: `locked` is held from before the first file is looked at to the end.
"""

import base64
import contextlib
import dataclasses
import datetime
import errno
import fcntl
import json
import os
import re
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bert_jax.errors import InputError

CONFIG = "config.json"
TOKENIZER = "tokenizer"
FIRST_START = "first_start.json"
LOCK = ".lock"
CONVERTED_FROM = "converted_from"  # in the config of a model that no run here has made
FULL = (errno.ENOSPC, errno.EDQUOT)  # a disk, or one's share of it
# File systems without locks say one of these, some network ones and FUSE.
_NO_LOCKS = (errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS, errno.EINVAL)


def seed_runs(directory: Path) -> list[Path]:
    """The workdirs that runs of several seeds have made below their own."""
    return sorted(directory.glob("seed_*"))


def write_bytes(path: Path, content: bytes) -> None:
    """Writes the file whole or not at all, whenever the process is killed."""
    write_together({path: content})


def write_together(files: Mapping[Path, bytes]) -> None:
    """Writes each file whole or not at all, and none where there is no room for all."""
    partials: dict[str, Path] = {}
    try:
        for path, content in files.items():
            # A name of its own: several hosts may write the same file of one workdir.
            handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".partial-{path.name}-")
            partials[partial] = path
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            os.chmod(partial, 0o644)
        for partial, path in partials.items():
            os.replace(partial, path)
    except BaseException:
        for partial in partials:
            Path(partial).unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8, whole or not at all."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """As `as_json`, whole or not at all."""
    write_text(path, as_json(value))


def as_json(value: Any) -> str:
    """Indented, Chinese as it is."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def try_writing(directory: Path) -> None:
    """Raises OSError where no file can be made; leaves none."""
    tempfile.TemporaryFile(dir=directory).close()


@contextlib.contextmanager
def writing(path: str | Path, flag: str = "--workdir") -> Iterator[None]:
    """What the disk has against a write becomes an InputError."""
    try:
        yield
    except OSError as error:
        what, mend = error.strerror, "make it writable or name another"
        if error.errno in FULL:
            what, mend = "the disk is full", "free space and run the command again"
        raise InputError(f"{flag}={path} cannot be written ({what}): {mend}.") from None


@contextlib.contextmanager
def locked(workdir: str | Path, *, is_first: bool = True) -> Iterator[Path]:
    """Makes the directory and holds it for this run; gives its absolute path.

    Of the processes of one run the first makes it and takes the lock, and only then the
    others come. The kernel frees it when the process ends, however it ends. Raises InputError
    where another run has it, or the directory cannot be written or is not shared.
    """
    directory = Path(workdir).absolute()
    if not is_first and not directory.is_dir():
        raise InputError(
            f"--workdir={workdir} is not there, where another process has made its own: name one"
            " directory that all hosts share."
        )
    with writing(workdir):
        directory.mkdir(parents=True, exist_ok=True)
        handle = _take_lock(directory, workdir) if is_first else None
    if handle is None:
        yield directory
        return
    try:
        yield directory
    finally:
        # First the name, so that nobody takes the lock of a file about to go.
        (directory / LOCK).unlink(missing_ok=True)
        os.close(handle)


def _take_lock(directory: Path, workdir: str | Path) -> int:
    path = directory / LOCK
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _lock(handle, workdir)
            # Its holder may have removed it between the opening and the locking.
            if path.exists() and os.fstat(handle).st_ino == path.stat().st_ino:
                since = datetime.datetime.now().astimezone().isoformat(" ", "seconds")
                os.truncate(handle, 0)
                os.pwrite(handle, f"{os.getpid()} {socket.gethostname()} {since}\n".encode(), 0)
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _lock(handle: int, workdir: str | Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        # Empty in the moment between the locking and the writing.
        told = os.pread(handle, 300, 0).decode().strip() or "? ? ?"
        process, host, since = told.split(" ", 2)
        raise InputError(
            f"--workdir={workdir} is in use by process {process} on {host} since {since}:"
            " wait for it, or use another --workdir."
        ) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        print(
            f"warning: --workdir={workdir} is on a file system without locks ({error.strerror}):"
            " see to it that no other run uses it.",
            file=sys.stderr,
        )


def check_config(
    directory: Path, config: Any, *, is_begun: bool, may_change: tuple[str, ...] = ()
) -> None:
    """Raises InputError where a directory holds results (`is_begun`) of another config, or,
    before there are any, what this stage would write over and has not written.

    Of another config it names the first field that differs: results of two must not mix. Fields
    named in `may_change` ("section.field", the same for every element of a list) may differ.
    """
    if not is_begun:
        _refuse_foreign(directory, _resolved(config))
    elif (directory / CONFIG).exists():
        if CONVERTED_FROM in read_config(directory):
            raise InputError(
                f"--workdir={directory} holds a converted model, which is no run to go on with:"
                f" name it as --config.init_from, and a new --workdir."
            )
        _refuse_changes(directory, _resolved(config), may_change)


def write_config(directory: Path, config: Any) -> None:
    """Leaves the resolved config in the workdir, once nothing speaks against the run."""
    with writing(directory):
        write_json(directory / CONFIG, _resolved(config))


def _resolved(config: Any) -> dict[str, Any]:
    return json.loads(json.dumps(dataclasses.asdict(config)))


def first_start(directory: Path) -> float:
    """The Unix time at which the run there was begun for the first time, which may be now."""
    path = directory / FIRST_START
    if not path.exists():
        with writing(directory):
            write_json(path, {"unix_seconds": time.time()})
    return json.loads(path.read_text("utf-8"))["unix_seconds"]


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


def _refuse_foreign(directory: Path, new: dict[str, Any]) -> None:
    """Every stage leaves its config first, so that nothing of a run stands without it."""
    path = directory / CONFIG
    if path.exists():
        try:
            found = json.loads(path.read_text("utf-8"))
        except ValueError:
            found = None
        # The fields tell the stages apart, and from whatever else is called so.
        foreign = None if isinstance(found, dict) and found.keys() == new.keys() else CONFIG
    else:
        foreign = f"{TOKENIZER}/" if (directory / TOKENIZER).exists() else None
    if foreign:
        raise InputError(
            f"--workdir={directory} holds a {foreign} that this stage has not written and would"
            " write over: use a new --workdir."
        )


def _refuse_changes(directory: Path, new: dict[str, Any], may_change: tuple[str, ...]) -> None:
    old = dict(_flat(read_config(directory)))
    for name, value in _flat(new):
        is_free = re.sub(r"\[\d+\]", "", name) in may_change
        if not is_free and old.get(name) != value:
            raise InputError(
                f"--workdir={directory} holds a run with config.{name}={old.get(name)!r}, and this"
                f" one has {value!r}: use a new --workdir, or delete the old one."
            )


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            yield f"{prefix}{name} (how many)", len(value)
            for number, item in enumerate(value):
                yield from _flat(item, f"{prefix}{name}[{number}].")
        else:
            yield f"{prefix}{name}", value
