"""Files that are whole or as they were."""

import os

import pytest

from bert_jax.workdir import write_text


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
