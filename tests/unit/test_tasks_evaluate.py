"""What of a config `evaluate` takes beside what the run was made with."""

import pytest

from bert_jax.fields import build
from bert_jax.finetune_config import FinetuneConfig
from bert_jax.tasks.evaluate import ROWS, with_rows
from configs import finetune_sentiment

WITHOUT_HEADER = {"test": "own.tsv", "columns": ("label", "text")}


@pytest.mark.parametrize(
    ("given", "named", "test", "columns"),
    [
        ({}, ROWS, "own.tsv", ("label", "text")),
        ({"test": "other.csv"}, ROWS, "other.csv", ()),
        ({"test": "other.csv"}, {"data.test"}, "other.csv", ("label", "text")),
        ({"test": "b.tsv", "columns": ("text", "label")}, ROWS, "b.tsv", ("text", "label")),
        ({"columns": ("text", "label")}, {"data.columns"}, "own.tsv", ("text", "label")),
        ({}, {"data.columns"}, "own.tsv", ()),
        ({"test": "other.csv"}, {"data.columns"}, "own.tsv", ()),
        ({"test": "b.tsv", "columns": ("text", "label")}, (), "own.tsv", ("label", "text")),
    ],
)
def test_columns_are_of_the_rows_that_are_read(given, named, test, columns):
    config = finetune_sentiment.get_config().to_dict() | {"init_from": "runs/any"}
    own, other = {"test": "", "columns": ()} | WITHOUT_HEADER, {"test": "", "columns": ()} | given
    made_with = build(FinetuneConfig, config | {"data": config["data"] | own})
    found = with_rows(made_with, config | {"data": config["data"] | other}, named).data
    assert (found.test, found.columns) == (test, columns)
