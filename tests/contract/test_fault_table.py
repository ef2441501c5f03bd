"""The table of faults in tests/README.md: a row for each place, and tests that there are."""

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
TABLE = (TESTS / "README.md").read_text("utf-8").partition("\n## Which fault")[2]
ROWS = [line.split("|")[1:] for line in TABLE.splitlines() if "->" in line and line[0] == "|"]
# Behind an arrow, up to the next fault: what is left of a test's name, and maybe an id.
NAMED = [
    name
    for _, faults, *_ in ROWS
    for behind in faults.split("->")[1:]
    for name in re.findall(r"`(\w+)(?:\[[^`]*\])?`", behind.partition(";")[0])
]


def test_names_of_the_fault_table_are_those_of_tests():
    nodes = [
        node
        for path in TESTS.rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
    ]
    names = [node.name for node in nodes if isinstance(node, ast.FunctionDef)]
    tests = "\n".join(name for name in names if name.startswith("test_"))
    assert len(NAMED) > 500
    assert [name for name in NAMED if name not in tests] == []


def test_a_place_has_one_row_in_the_fault_table():
    places = [place.strip() for place, *_ in ROWS]
    assert [place for place in places if places.count(place) > 1] == []
