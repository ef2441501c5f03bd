"""What several files of unit tests share."""

import functools

import made_up_compiler
import pytest


@pytest.fixture
def eight_chips(monkeypatch):
    made_up_compiler.eight_chips(monkeypatch)


@pytest.fixture
def compiler(monkeypatch):
    return functools.partial(made_up_compiler.install, monkeypatch)
