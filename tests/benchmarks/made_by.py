"""What a result that is kept was made by: versions of packages, and the code that ran."""

import hashlib
import importlib.metadata
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
OUR_CODE = ("bert_jax", "configs")  # of all benchmarks: theirs are scored by it too


def made_by(packages: Iterable[str], code: Sequence[str]) -> dict[str, str]:
    """{package: version} and the digest of the Python files that `code` names, or of all in a
    folder that it names; paths from the root of the repository.

    Raises FileNotFoundError for a path that is not there.
    """
    versions = {name: importlib.metadata.version(name) for name in packages}
    digest = hashlib.sha256()
    for path in sorted(file for place in code for file in _files(ROOT / place)):
        digest.update(f"{path.relative_to(ROOT)}\n".encode() + path.read_bytes())
    return versions | {"code": digest.hexdigest()[:16]}


def _files(place: Path) -> Iterable[Path]:
    if not place.exists():
        raise FileNotFoundError(place)
    return place.rglob("*.py") if place.is_dir() else [place]
