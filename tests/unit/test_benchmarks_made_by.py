"""A kept result is of the code that made it."""

import pytest

from tests.benchmarks import made_by as module
from tests.benchmarks.made_by import OUR_CODE, made_by


def test_other_code_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ROOT", tmp_path)
    package = tmp_path / "package" / "inner"
    package.mkdir(parents=True)
    (package / "a.py").write_text("x = 1\n")
    (tmp_path / "alone.py").write_text("y = 1\n")
    code = ("package", "alone.py")
    found = [made_by(["jax"], code)]
    (package / "a.py").write_text("x = 2\n")
    found.append(made_by(["jax"], code))
    (package / "a.py").rename(package / "b.py")
    found.append(made_by(["jax"], code))
    (tmp_path / "alone.py").write_text("y = 2\n")
    found.append(made_by(["jax"], code))
    assert len({each["code"] for each in found}) == len(found)
    (package / "notes.txt").write_text("not code")
    assert made_by(["jax"], code) == found[-1]
    with pytest.raises(FileNotFoundError):
        made_by(["jax"], ("nowhere.py",))


def test_versions_and_this_code_have_names():
    found = made_by(["jax", "flax"], OUR_CODE)
    assert set(found) == {"jax", "flax", "code"}
