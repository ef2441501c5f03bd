"""Files that are whole or as they were, and one run in a workdir."""

import errno
import fcntl
import os
import re
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from bert_jax.errors import InputError
from bert_jax.workdir import locked, write_text, writing

ROOT = Path(__file__).parents[2]


def test_a_file_is_replaced_and_never_written_into(tmp_path):
    path, same = tmp_path / "a.txt", tmp_path / "b.txt"
    path.write_text("old")
    os.link(path, same)
    write_text(path, "新")
    assert path.read_text("utf-8") == "新"
    assert same.read_text() == "old"
    assert path.stat().st_mode & 0o777 == 0o644  # others may read it
    assert {file.name for file in tmp_path.iterdir()} == {"a.txt", "b.txt"}


def test_what_fails_leaves_nothing(tmp_path):
    with pytest.raises(IsADirectoryError):
        write_text(tmp_path, "new")
    assert list(tmp_path.parent.glob(".partial-*")) == list(tmp_path.iterdir()) == []


HOLDER = """
    import sys, time
    from bert_jax.workdir import locked
    with locked(sys.argv[1]) as directory:
        print((directory / ".lock").read_text(), flush=True)
        time.sleep(600)
"""


def test_a_workdir_has_one_run_at_a_time(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLDER), tmp_path],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    try:
        process, host, since = holder.stdout.readline().strip().split(" ", 2)
        assert (int(process), host) == (holder.pid, socket.gethostname())
        message = rf"is in use by process {holder.pid} on {host} since {re.escape(since)}: wait for"
        with pytest.raises(InputError, match=message), locked(tmp_path):
            pass
        # Another process of the same run asks for no lock.
        with locked(tmp_path, is_first=False) as directory:
            assert directory == tmp_path
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    finally:
        holder.kill()
        holder.communicate()
    # The kernel has freed it, whatever the file says.
    assert (tmp_path / ".lock").read_text().startswith(f"{holder.pid} ")
    with locked(tmp_path):
        assert (tmp_path / ".lock").read_text().startswith(f"{os.getpid()} ")
    assert list(tmp_path.iterdir()) == []


def test_a_lock_taken_while_its_file_goes_is_taken_again(tmp_path, monkeypatch):
    flock, files = fcntl.flock, []

    def slow(handle, how):
        # The run before has ended between the opening and the locking.
        if not files:
            (tmp_path / ".lock").unlink()
        files.append(os.fstat(handle).st_ino)
        flock(handle, how)

    monkeypatch.setattr(fcntl, "flock", slow)
    with locked(tmp_path):
        assert len(files) == 2
        assert (tmp_path / ".lock").stat().st_ino == files[1]


@pytest.mark.parametrize("number", [errno.ENOTSUP, errno.ENOLCK])
def test_a_file_system_without_locks(number, tmp_path, monkeypatch, capsys):
    def none(handle, how):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", none)
    with locked(tmp_path):
        said = capsys.readouterr().err
    assert re.fullmatch(r"warning: .* without locks \(.*\): see to it that no other run .*\n", said)


def test_a_full_disk_is_one_sentence(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    message = r"cannot be written \(the disk is full\): free space and run the command again\."
    with pytest.raises(InputError, match=message), writing(tmp_path):
        write_text(tmp_path / "a.txt", "new")
    assert list(tmp_path.iterdir()) == []
