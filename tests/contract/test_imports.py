"""The floors of the package, read from its imports: a folder knows only those below it."""

import ast
from pathlib import Path

import pytest

import bert_jax

ROOT = Path(bert_jax.__file__).parent

GROUND = {"config", "finetune_config", "fields", "errors", "arrays", "workdir", "process"}
# Each floor with all of the package that it may import, itself included.
FLOORS = {
    "ground": GROUND,
    "text": GROUND | {"text"},
    "data": GROUND | {"text", "data"},
    "model": GROUND | {"model"},
    "training": GROUND | {"training"},
    "interchange": GROUND | {"text", "interchange"},
    "tasks": GROUND | {"text", "data", "model", "training", "interchange", "tasks"},
    "cli": GROUND | {"cli"},
    "entry": GROUND | {"text", "data", "model", "training", "tasks", "cli"},
}
WITHOUT_JAX = ("ground", "text", "data", "interchange")


def floor(path: Path) -> str:
    """The folder, or for the files beside the folders what they are."""
    first = path.relative_to(ROOT).parts[0].removesuffix(".py")
    if first in FLOORS:
        return first
    return "ground" if first in GROUND | {"__init__"} else "entry"


def imports(path: Path) -> set[str]:
    """Every module a file imports, at its top or inside a function, by its full name."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


FILES = {str(path.relative_to(ROOT)): imports(path) for path in sorted(ROOT.rglob("*.py"))}


def libraries(name: str) -> set[str]:
    return {module.split(".")[0] for module in FILES[name]}


def test_every_floor_has_files():
    assert {floor(ROOT / name) for name in FILES} == set(FLOORS)


@pytest.mark.parametrize("name", FILES)
def test_a_file_imports_only_from_its_floor_and_below(name):
    own = {module.split(".")[1] for module in FILES[name] if module.startswith("bert_jax.")}
    assert own <= FLOORS[floor(ROOT / name)]


@pytest.mark.parametrize("name", FILES)
def test_jax_stays_out_of_text_and_data(name):
    if floor(ROOT / name) in WITHOUT_JAX:
        assert not libraries(name) & {"jax", "jaxlib", "flax", "optax", "orbax"}


def test_only_the_model_knows_flax():
    with_flax = {name for name in FILES if "flax" in libraries(name)}
    assert {floor(ROOT / name) for name in with_flax} == {"model"}


def test_only_the_checkpoints_know_orbax():
    assert {name for name in FILES if "orbax" in libraries(name)} == {"training/checkpoint.py"}


def test_only_one_file_knows_beam():
    assert {name for name in FILES if "apache_beam" in libraries(name)} == {"data/beam.py"}


def test_no_other_framework():
    for name in FILES:
        assert not libraries(name) & {"torch", "transformers", "haiku"}, name
    with_tensorflow = {name for name in FILES if "tensorflow" in libraries(name)}
    assert with_tensorflow == {"interchange/tf_checkpoint.py"}


def test_flags_stay_in_the_entry_points_and_config_dicts_in_front_of_build():
    with_flags = {name for name in FILES if "absl" in libraries(name)}
    assert {floor(ROOT / name) for name in with_flags} == {"cli", "entry"}
    assert {name for name in FILES if "ml_collections" in libraries(name)} == {
        *("cli.py", "fields.py"),
    }
