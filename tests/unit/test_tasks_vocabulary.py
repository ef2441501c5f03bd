"""Rows against the tokenizer that a model has."""

from pathlib import Path

import foreign
import pytest
from unit.test_interchange_growth import wordpiece

from bert_jax.errors import InputError
from bert_jax.tasks.vocabulary import check_same_vocabulary


def check(tokenizer):
    check_same_vocabulary(
        Path("runs/data"), tokenizer, wordpiece(), whose="runs/base has", mend="mend it"
    )


def test_rows_of_the_same_tokenizer_pass():
    check(wordpiece())


@pytest.mark.parametrize(
    ("tokenizer", "what"),
    [
        (wordpiece((*foreign.PIECES, "new")), "another vocabulary"),
        (wordpiece(foreign.PIECES[::-1]), "another vocabulary"),
        (wordpiece(lowercase=False), "the same vocabulary by other settings"),
    ],
)
def test_rows_of_another_are_refused(tokenizer, what):
    message = rf"^runs/data was prepared with {what} than runs/base has: mend it\.$"
    with pytest.raises(InputError, match=message):
        check(tokenizer)
