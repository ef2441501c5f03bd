"""Files of text: finding them, opening them, and their lines or records, with errors that
name the place."""

import bz2
import contextlib
import csv
import glob
import gzip
import hashlib
import io
import json
import lzma
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from bert_jax.errors import InputError, first_line

FilePath = str | os.PathLike[str]
Record = tuple[str, dict[str, Any]]  # place for messages, such as path:line; fields

COMPRESSIONS: dict[str, Callable[[IO[bytes]], IO[bytes]]] = {
    ".gz": gzip.open,
    ".xz": lzma.open,
    ".bz2": bz2.open,
}
SCHEMES = ("tfds", "pypi")
BUCKETS = "gs://"
BOM = b"\xef\xbb\xbf"
SURROGATE = re.compile("[\ud800-\udfff]")
# The limit of csv itself, 131,072, is short of a long document; without any, a quote that
# is never closed would take the rest of the file into memory.
FIELD_CHARACTERS = 2**27
PARQUET_ROWS = 64  # at once: each may be a document of megabytes
BUFFER_BYTES = 2**20


class Line(NamedTuple):
    number: int  # from 1
    text: str  # without its end


def scheme(source: str) -> str:
    """One of `SCHEMES`, or "" for files. Raises InputError for any other scheme."""
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):", source)
    if found is None or source.startswith(BUCKETS) or Path(source).exists():
        return ""
    if found[1] not in SCHEMES:
        raise InputError(
            f"{source}: the scheme {found[1]}: is not known; give a path or glob of files, on"
            f" disk or {BUCKETS}, {' or '.join(f'{name}:NAME' for name in SCHEMES)}."
        )
    return found[1]


def matching(source: str) -> list[str]:
    """The files of a path or glob, sorted. Raises InputError if there is none."""
    if source.startswith(BUCKETS):
        files = _in_bucket(source)
    elif os.path.isdir(source):
        raise InputError(f"{source} is a directory; name its files, as in {source}/*.txt.")
    else:
        paths = [source] if os.path.exists(source) else glob.glob(source, recursive=True)
        files = [path for path in paths if os.path.isfile(path)]
    if not files:
        raise InputError(f"{source} matches no file; check the path.")
    return sorted(files)


def _in_bucket(source: str) -> list[str]:
    with _reading(source):
        bucket = _bucket(source)
        found = bucket.glob(source, detail=True).items()
        return [bucket.unstrip_protocol(name) for name, entry in found if entry["type"] == "file"]


def _bucket(path: str) -> Any:
    import fsspec  # here and below: only who names such a file pays for the import

    try:
        return fsspec.filesystem("gs")
    except ImportError as error:
        raise InputError(f"{path} cannot be read without gcsfs: pip install gcsfs.") from error


def suffix(path: FilePath) -> str:
    """The suffix that says the format, without that of a compression."""
    name, end = os.path.splitext(path)
    return os.path.splitext(name)[1] if end in COMPRESSIONS else end


def check_suffix(path: FilePath, known: Iterable[str]) -> None:
    """Raises InputError if the format is none of these, or Parquet in another compression."""
    if suffix(path) not in known:
        raise InputError(
            f"{path}: files that end in {suffix(path)!r} are not read here; known are"
            f" {', '.join(known)}, all but Parquet also with {', '.join(COMPRESSIONS)}."
        )
    if suffix(path) == PARQUET and not str(path).endswith(PARQUET):
        raise InputError(f"{path}: Parquet is compressed in itself; decompress the file.")


def lines(path: FilePath) -> Iterator[Line]:
    """Lines as UTF-8, one at a time; a byte order mark and \\r\\n are taken off.

    Raises InputError if the file is not UTF-8 (byte offset from 0, after decompression),
    is damaged or cannot be opened.
    """
    decompressed = COMPRESSIONS.get(os.path.splitext(path)[1], contextlib.nullcontext)
    with _reading(path), _open(path) as raw, decompressed(raw) as file:
        offset = 0
        for number, line in enumerate(file, 1):
            start = len(BOM) if number == 1 and line.startswith(BOM) else 0
            yield Line(number, _decoded(line[start:], path, number, offset + start))
            offset += len(line)


def _open(path: FilePath) -> IO[bytes]:
    if not str(path).startswith(BUCKETS):
        return open(path, "rb")
    # fsspec's own lines each read a whole block anew.
    return io.BufferedReader(_bucket(str(path)).open(path, "rb"), BUFFER_BYTES)


@contextlib.contextmanager
def _reading(path: FilePath, *errors: type[Exception]) -> Iterator[None]:
    """Raises InputError for these errors, for those of files and compressions, and for any
    that a bucket raises."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        expected = (OSError, EOFError, lzma.LZMAError, zlib.error, *errors)
        if str(path).startswith(BUCKETS):
            mend = "check the path, the network and the credentials"
        elif isinstance(error, expected):
            mend = "check that it is there, and whole"
        else:
            raise
        raise InputError(
            f"{path} cannot be read ({type(error).__name__}: {first_line(error)}); {mend}."
        ) from error


def _decoded(raw: bytes, path: FilePath, number: int, offset: int) -> str:
    try:
        return raw.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not UTF-8: byte {offset + error.start} (line {number}) is"
            f" 0x{raw[error.start]:02x}; convert it, for example with iconv -t utf-8."
        ) from error


def records(
    path: FilePath,
    fields: Sequence[str],
    optional: Sequence[str] = (),
    columns: Sequence[str] = (),
) -> Iterator[Record]:
    """The records of a file whose suffix is in `RECORDS`, one at a time.

    Parquet has only `fields` read, and of `optional` those that are there; other formats every
    field. Tables have a header line, or are none and their fields called `columns`. Raises
    InputError where something cannot be read, or `columns` has a name twice.
    """
    check_suffix(path, RECORDS)
    if len(set(columns)) < len(columns):
        raise InputError(
            f"{COLUMNS} has a name twice ({', '.join(columns)}): each field needs its own."
        )
    if suffix(path) in TABLES:
        return _table(path, columns, **TABLES[suffix(path)])
    if suffix(path) == PARQUET:
        return _parquet(path, fields, optional)
    return _json_lines(path)


def _json_lines(path: FilePath) -> Iterator[Record]:
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
        except (ValueError, RecursionError) as error:  # a number or a nesting beyond Python's
            raise InputError(f"{where} cannot be read as JSON ({error}); mend it.") from error
        if not isinstance(found, dict):
            raise InputError(
                f"{where} is a JSON {type(found).__name__}; give one JSON object a line."
            )
        yield where, found


def _table(
    path: FilePath, columns: Sequence[str], *, delimiter: str, quoting: int
) -> Iterator[Record]:
    csv.field_size_limit(FIELD_CHARACTERS)
    if quoting == csv.QUOTE_NONE:
        mend = "mend it, or drop it: a text with a tab or a line break in it needs .csv."
    else:
        mend = "mend it: put quotes around a text with the separator in it, and close its quotes."
    rows = (f"{line.text}\n" for line in lines(path))
    reader = csv.reader(rows, strict=True, delimiter=delimiter, quoting=quoting)
    header, named_by = list(columns), COLUMNS if columns else "the header"
    start = 1  # a quoted field may go over several lines: the row is named by its first
    try:
        for values in reader:
            if columns and start == 1 and values == header:
                raise InputError(f"{path} has a header line: leave {COLUMNS} empty.")
            where, start = f"{path}:{start}", reader.line_num + 1
            if not header:
                header = values
            elif values and len(values) != len(header):
                raise InputError(
                    f"{where} has {len(values)} fields where {named_by} has {len(header)}"
                    f" ({', '.join(header)}); {mend}"
                )
            elif values:
                yield where, dict(zip(header, values, strict=True))
    except csv.Error as error:
        raise InputError(f"{path}:{start} is not a table row ({error}); {mend}") from error


def _parquet(path: FilePath, fields: Sequence[str], optional: Sequence[str]) -> Iterator[Record]:
    from pyarrow import ArrowException, parquet

    with _reading(path, ArrowException), _open(path) as file:
        # Without both it reads a row group's column whole, which may be gigabytes.
        table = parquet.ParquetFile(file, buffer_size=BUFFER_BYTES, pre_buffer=False)
        there = dict.fromkeys(table.schema_arrow.names)
        for name in fields:
            field(there, name, str(path))
        wanted = [name for name in there if name in (*fields, *optional)]
        start = 0
        for batch in table.iter_batches(PARQUET_ROWS, columns=wanted):
            try:
                rows = batch.to_pylist()
            except UnicodeDecodeError as error:
                raise InputError(
                    f"{path} is not UTF-8 in one of the rows {start} to"
                    f" {start + len(batch) - 1}, counted from 0; convert the data."
                ) from error
            for number, row in enumerate(rows, start):
                yield f"{path}#{number}", row
            start += len(batch)


def parquet_metadata(path: FilePath) -> dict[bytes, bytes]:
    """What the schema of a Parquet file says beside its fields."""
    from pyarrow import ArrowException, parquet

    with _reading(path, ArrowException), _open(path) as file:
        return parquet.read_schema(file).metadata or {}


def field(record: dict[str, Any], name: str, where: str) -> Any:
    """Raises InputError naming the fields there are if `name` is none of them."""
    if name not in record:
        raise InputError(
            f"{where} has no field {name!r}; it has {', '.join(map(repr, record)) or 'none'}:"
            f" set the option that says {name!r}, if one does, to one of them, or mend the data"
            f"{HEADER if suffix(where.rpartition(':')[0]) in TABLES else ''}."
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
            " name a field of text, or mend the data."
        )
    if SURROGATE.search(value):
        raise InputError(
            f"{where}: field {name!r} holds a lone surrogate (half of a character);"
            " write the text with whole characters."
        )
    return value


def checksum(path: FilePath) -> dict[str, str | int]:
    """{"sha256": hex, "bytes": size}, read a part at a time."""
    with _reading(path), _open(path) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"sha256": digest, "bytes": file.tell()}


COLUMNS = "config.data.columns (--columns of predict)"
HEADER = f"; a table's fields are what its first line says, or {COLUMNS}"
TSV, PARQUET = ".tsv", ".parquet"
TABLES: dict[str, dict[str, Any]] = {
    ".csv": dict(delimiter=",", quoting=csv.QUOTE_MINIMAL),
    TSV: dict(delimiter="\t", quoting=csv.QUOTE_NONE),  # as in GLUE
}
RECORDS = (*TABLES, ".jsonl", ".json", PARQUET)  # .json with lines, as the files of CLUE are called
