"""What several seeds come to together."""

import pytest

from bert_jax.tasks.seeds import summary, table

FOUND = {
    3: {"validation": {"accuracy": 0.9, "loss": 0.5}, "test": {"accuracy": 0.8}},
    4: {"validation": {"accuracy": 0.6, "loss": 0.7}, "test": {"accuracy": 0.4}},
    5: {"validation": {"accuracy": 0.6, "loss": 0.6}, "test": {"accuracy": 0.6}},
}
BLIND = {"accuracy": 0.6, "loss": 0.65}


def test_mean_and_standard_deviation_of_a_sample():
    found = summary(FOUND, [], BLIND, "accuracy", higher=True)
    assert found["mean"]["test"] == pytest.approx({"accuracy": 0.6})
    assert found["standard_deviation"]["test"] == pytest.approx({"accuracy": 0.2})
    assert found["mean"]["validation"]["loss"] == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("metric", "higher", "collapsed"), [("accuracy", True, [4, 5]), ("loss", False, [4])]
)
def test_a_seed_no_better_than_the_frequencies_has_collapsed(metric, higher, collapsed):
    found = summary(FOUND, [], BLIND, metric, higher=higher)
    assert found["collapsed"] == collapsed
    said = table(found).splitlines()[-1]
    assert said.startswith(f"warning: collapsed, with a validation {metric} no better than the")
    assert f"seed {', '.join(map(str, collapsed))};" in said


def test_the_table_has_a_line_a_metric_and_a_column_a_seed():
    found = summary(FOUND, [], BLIND | {"accuracy": 0.5}, "accuracy", higher=True)
    assert [line.split() for line in table(found).splitlines()] == [
        ["mean", "std", "3", "4", "5"],
        ["validation", "accuracy", "0.7000", "0.1732", "0.9000", "0.6000", "0.6000"],
        ["validation", "loss", "0.6000", "0.1000", "0.5000", "0.7000", "0.6000"],
        ["test", "accuracy", "0.6000", "0.2000", "0.8000", "0.4000", "0.6000"],
    ]


def test_columns_are_as_wide_as_the_name_of_a_source():
    source = "test tfds:glue/mnli:validation_mismatched"
    further = {seed: one | {source: one["test"]} for seed, one in FOUND.items()}
    found = summary(further, [], BLIND | {"accuracy": 0.5}, "accuracy", higher=True)
    lines = table(found).splitlines()
    assert lines[-1].startswith(f"{source} accuracy  0.6000")
    assert {len(line) for line in lines} == {len(lines[-1])}


def test_a_seed_that_fell_apart_has_collapsed_and_no_metrics():
    found = summary({5: FOUND[5]}, [6], BLIND | {"accuracy": 0.5}, "accuracy", higher=True)
    assert (list(found["seeds"]), found["collapsed"]) == ([5], [6])
    assert found["standard_deviation"]["test"] == {"accuracy": None}
    lines = table(found).splitlines()
    assert lines[1].split() == ["validation", "accuracy", "0.6000", "-", "0.6000"]
    assert "seed 6;" in lines[-1]
