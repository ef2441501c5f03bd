"""Files of text: finding them, opening them, and their lines, with errors that name the place."""

import bz2
import glob
import gzip
import hashlib
import json
import lzma
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from bert_jax.errors import InputError

COMPRESSIONS: dict[str, Callable[[Path], IO[bytes]]] = {
    ".gz": gzip.open,
    ".xz": lzma.open,
    ".bz2": bz2.open,
}
SCHEMES = ("tfds", "pypi")
BOM = b"\xef\xbb\xbf"
SURROGATE = re.compile("[\ud800-\udfff]")


class Line(NamedTuple):
    number: int  # from 1
    text: str  # without its end


def scheme(source: str) -> str:
    """One of `SCHEMES`, or "" for files. Raises InputError for any other scheme."""
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):", source)
    if found is None or Path(source).exists():
        return ""
    if found[1] not in SCHEMES:
        raise InputError(
            f"{source}: the scheme {found[1]}: is not known; give a path or glob of files,"
            f" {' or '.join(f'{name}:NAME' for name in SCHEMES)}."
        )
    return found[1]


def matching(source: str) -> list[Path]:
    """The files of a path or glob, sorted. Raises InputError if there is none."""
    if Path(source).is_dir():
        raise InputError(f"{source} is a directory; name its files, as in {source}/*.txt.")
    paths = [source] if Path(source).exists() else sorted(glob.glob(source, recursive=True))
    files = [Path(path) for path in paths if Path(path).is_file()]
    if not files:
        raise InputError(f"{source} matches no file; check the path.")
    return files


def suffix(path: Path, known: Iterable[str]) -> str:
    """The suffix that says the format, without that of a compression.

    Raises InputError if it is not among `known`.
    """
    name = path.with_suffix("") if path.suffix in COMPRESSIONS else path
    if name.suffix not in known:
        raise InputError(
            f"{path}: files that end in {name.suffix!r} are not read here; known are"
            f" {', '.join(known)}, each also with {', '.join(COMPRESSIONS)}."
        )
    return name.suffix


def lines(path: Path) -> Iterator[Line]:
    """Lines as UTF-8, one at a time; a byte order mark and \\r\\n are taken off.

    Raises InputError if the file is not UTF-8 (byte offset from 0, after decompression),
    is damaged or cannot be opened.
    """
    try:
        with COMPRESSIONS.get(path.suffix, _open_plain)(path) as file:
            offset = 0
            for number, raw in enumerate(file, 1):
                start = len(BOM) if number == 1 and raw.startswith(BOM) else 0
                yield Line(number, _decoded(raw[start:], path, number, offset + start))
                offset += len(raw)
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise InputError(f"{path} cannot be read ({error}); give a whole file.") from error


def _open_plain(path: Path) -> IO[bytes]:
    return path.open("rb")


def _decoded(raw: bytes, path: Path, number: int, offset: int) -> str:
    try:
        return raw.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not UTF-8: byte {offset + error.start} (line {number}) is"
            f" 0x{raw[error.start]:02x}; convert it, for example with iconv -t utf-8."
        ) from error


def json_objects(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(path:line, object) of every line that is not blank."""
    for line in lines(path):
        if not line.text.strip():
            continue
        where = f"{path}:{line.number}"
        try:
            found = json.loads(line.text)
        except json.JSONDecodeError as error:
            raise InputError(
                f"{where} is not JSON ({error.msg} at character {error.pos});"
                " give one JSON object a line."
            ) from error
        if not isinstance(found, dict):
            raise InputError(
                f"{where} is a JSON {type(found).__name__}; give one JSON object a line."
            )
        yield where, found


def field(record: dict[str, Any], name: str, where: str) -> Any:
    """Raises InputError naming the fields there are if `name` is none of them."""
    if name not in record:
        raise InputError(
            f"{where} has no field {name!r}; it has {', '.join(map(repr, record)) or 'none'}:"
            " set text_field or label_field to one of them."
        )
    return record[name]


def as_text(value: Any, name: str, where: str) -> str:
    """Raises InputError unless the value is text that can be written as UTF-8."""
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(
                f"{where}: field {name!r} is not UTF-8 at byte {error.start}; convert the data."
            ) from error
    if not isinstance(value, str):
        raise InputError(
            f"{where}: field {name!r} is {type(value).__name__}, not text;"
            " set text_field to a field of text."
        )
    if SURROGATE.search(value):
        raise InputError(
            f"{where}: field {name!r} holds a lone surrogate (half of a character);"
            " write the text with whole characters."
        )
    return value


def checksum(path: Path) -> dict[str, str | int]:
    """{"sha256": hex, "bytes": size}, read a part at a time."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"sha256": digest, "bytes": path.stat().st_size}
