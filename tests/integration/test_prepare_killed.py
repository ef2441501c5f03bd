"""A preparation that is killed and started again leaves what an undisturbed one leaves."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from integration import corpus
from integration.test_prepare import IN_A_PROCESS, ROOT, contents

from bert_jax.data import dataset, prepare
from bert_jax.text import wordpiece

SHARDS = 24
DEADLINE_S = 15


def many_shards(path, **changed):
    config = corpus.prepare_config(path)
    config.shards = SHARDS
    config.drop_duplicate_paragraphs = True
    config.update(changed)
    return config


@pytest.fixture(scope="module")
def undisturbed(documents_path, tmp_path_factory):
    directory = tmp_path_factory.mktemp("undisturbed")
    prepare.run(many_shards(documents_path), directory)
    return contents(directory)


def in_a_process(config, directory):
    return subprocess.Popen(
        [sys.executable, "-c", IN_A_PROCESS, config.to_json(), directory],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def wait_until(is_so):
    deadline = time.monotonic() + DEADLINE_S
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.001)


# What the directory shows when the kill comes.
POINTS = {
    "dealing": lambda found: any(found.glob(".unfinished/*")),
    "vocabulary": lambda found: (found / ".unfinished/dealt.json").exists(),
    "first shard": lambda found: (found / ".unfinished/tokenizer.json").exists(),
    "a third": lambda found: len([*found.glob(".unfinished/*-of-*.json")]) >= SHARDS // 3,
    "two thirds": lambda found: len([*found.glob(".unfinished/*-of-*.json")]) >= 2 * SHARDS // 3,
}


def kill_at(point, config, directory):
    process = in_a_process(config, directory)
    try:
        wait_until(lambda: POINTS[point](directory) or process.poll() is not None)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == -signal.SIGKILL
    assert not (directory / dataset.MANIFEST).exists()


@pytest.mark.parametrize("point", POINTS)
def test_killed_and_started_again_the_bytes_are_the_same(
    point, documents_path, undisturbed, tmp_path
):
    config = many_shards(documents_path)
    kill_at(point, config, tmp_path)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.glob("pretraining_rows-*")}
    prepare.run(config, tmp_path)
    assert contents(tmp_path) == undisturbed
    # What was whole is not done again, but for the one whose record was not yet written.
    again = [path for path, time_ns in written.items() if path.stat().st_mtime_ns != time_ns]
    assert len(again) <= 1
    assert len(written) >= {"a third": SHARDS // 3, "two thirds": 2 * SHARDS // 3}.get(point, 0)


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()


class Killed(BaseException):
    """As a kill would be: nothing catches it but the test."""


def killed_in(monkeypatch, place, name, config, directory, *, after=0):
    """Ends the preparation where it calls `place.name` for the time after `after` ones."""
    calls = iter(range(after))

    def end(*_args, **_options):
        if next(calls, None) is None:
            raise Killed
        return function(*_args, **_options)

    function = getattr(place, name)
    with monkeypatch.context() as patch:
        patch.setattr(place, name, end)
        with pytest.raises(Killed):
            prepare.run(config, directory)


@pytest.mark.parametrize("files", [0, 1, 3, 5, 6, 9, 10])
def test_killed_before_any_file_is_in_its_place(files, documents_path, data, tmp_path, monkeypatch):
    config = corpus.prepare_config(documents_path)
    killed_in(monkeypatch, os, "replace", config, tmp_path, after=files)
    prepare.run(config, tmp_path)
    assert contents(tmp_path) == contents(data)


def test_killed_while_it_saves_the_vocabulary(documents_path, data, tmp_path, monkeypatch):
    config = corpus.prepare_config(documents_path)
    killed_in(monkeypatch, wordpiece.WordPiece, "save", config, tmp_path)
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer/.vocab.txt.k1lled").touch()
    prepare.run(config, tmp_path)
    assert contents(tmp_path) == contents(data)


def test_killed_before_it_has_tidied_up(documents_path, data, tmp_path, monkeypatch):
    config = corpus.prepare_config(documents_path)
    # It clears three directories before it begins, and one at the end.
    killed_in(monkeypatch, shutil, "rmtree", config, tmp_path, after=3)
    assert (tmp_path / dataset.MANIFEST).exists()
    assert (tmp_path / ".unfinished").exists()
    prepare.run(config, tmp_path)
    assert contents(tmp_path) == contents(data)


def test_killed_once_the_empty_split_is_gone(tmp_path, monkeypatch):
    texts = corpus.documents(20)
    # Control characters alone, with a hash below that of every other document.
    empty = min(("\u0007" * n for n in range(1, 1000)), key=digest)
    path = corpus.write_documents(tmp_path / "a.txt", [*texts, empty])
    config = corpus.prepare_config(path)
    config.heldout_fraction = (int(digest(empty)[:8], 16) + 1) / 2**32
    assert min(map(digest, texts)) > digest(empty)
    directory = tmp_path / "data"
    killed_in(monkeypatch, dataset, "write_metadata", config, directory)
    manifest = prepare.run(config, directory)
    assert manifest["splits"].keys() == {"train"}
    assert manifest == prepare.run(config, tmp_path / "undisturbed")


@pytest.mark.parametrize("change", ["source", "config", "shards"])
def test_what_changed_after_the_kill_is_begun_anew(change, documents_path, tmp_path):
    path = shutil.copy(documents_path, tmp_path / "documents.txt")
    config = many_shards(path)
    kill_at("a third", config, tmp_path / "data")
    if change == "source":
        corpus.write_documents(path, corpus.documents(90))
    elif change == "config":
        config.seed = 5
    else:
        config.shards = 3
    for directory in ("data", "undisturbed"):
        prepare.run(config, tmp_path / directory)
    assert contents(tmp_path / "data") == contents(tmp_path / "undisturbed")


def test_documents_half_cleared_are_not_gone_on_with(documents_path, data, tmp_path, monkeypatch):
    """Killed, begun with another config, killed while it clears, and begun as at first."""
    config, other = corpus.prepare_config(documents_path), corpus.prepare_config(documents_path)
    other.seed = 5
    killed_in(monkeypatch, wordpiece, "train_on_words", config, tmp_path)

    def clear_half(directory, **_):
        for path in sorted(Path(directory).glob("train-*"))[::2]:
            path.unlink()
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", clear_half)
        with pytest.raises(Killed):
            prepare.run(other, tmp_path)
    prepare.run(config, tmp_path)
    assert contents(tmp_path) == contents(data)


def test_the_workers_of_a_killed_preparation_end_with_it(documents_path, tmp_path):
    config = corpus.prepare_config(documents_path)
    # The training shard takes minutes, the held-out one a moment.
    config.update(shards=1, shard_megabytes=10**6, workers=2)
    config.instances.passes = (20_000.0,)
    process = in_a_process(config, tmp_path)
    try:
        wait_until(lambda: any(tmp_path.glob(".unfinished/heldout-*.json")))
    finally:
        process.kill()
        process.wait()

    def is_gone():
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return True
        return False

    try:
        wait_until(is_gone)
    finally:
        if not is_gone():
            os.killpg(process.pid, signal.SIGKILL)
    assert not any(tmp_path.glob("pretraining_rows-train*"))
