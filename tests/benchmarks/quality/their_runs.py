"""The variants of Hugging Face's recipe: which are run, and for how long."""

import dataclasses
import itertools
import json
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from bert_jax.config import ModelConfig
from bert_jax.workdir import TOKENIZER, write_json
from tests.benchmarks.made_by import OUR_CODE, made_by
from tests.benchmarks.quality import curve
from tests.benchmarks.quality.curve import Curve, Point
from tests.benchmarks.quality.heldout import BLOCKS, Evaluator, from_hugging_face

PUBLISHED, SAME = MODELS = ("published", "same")
CODE = (*OUR_CODE, "tests/benchmarks/quality")
# Where they say the same as a config here.
GELU = {"erf": "gelu", "tanh": "gelu_new"}


@dataclasses.dataclass(frozen=True)
class Variant:
    """What the recipe leaves to its user."""

    learning_rate: float
    batch_size: int
    # "published": dropout, GELU and initialisation as BertConfig has them; "same": as ours.
    model: str
    compiled: bool

    @property
    def name(self) -> str:
        """For people and folders."""
        compiled = "_compiled" if self.compiled else ""
        return f"theirs_{self.learning_rate:g}_{self.batch_size}_{self.model}{compiled}"

    @classmethod
    def of(cls, curve: Curve) -> "Variant":
        """The one that a run was of."""
        return cls(**{field.name: curve.made_with[field.name] for field in dataclasses.fields(cls)})


DEFAULTS = Variant(learning_rate=5e-5, batch_size=8, model=PUBLISHED, compiled=False)


def strongest(curves: Iterable[Curve]) -> list[Curve]:
    """The best on blocks of text first."""
    return sorted(curves, key=lambda each: each.lowest(BLOCKS))


def variants(
    rates: Iterable[float], batch_sizes: Iterable[int], models: Iterable[str], compiled: bool
) -> list[Variant]:
    """Every combination."""
    return [Variant(*each, compiled) for each in itertools.product(rates, batch_sizes, models)]


@dataclasses.dataclass(frozen=True)
class TheirRuns:
    """Runs in folders of `workdir`; one that has ended with the same settings is taken as it is."""

    workdir: Path
    data: Path
    identity: str  # of the dataset
    model: ModelConfig  # whose sizes they have, and their positions and vocabulary
    blocks: Path  # an .npy file
    evaluator: Evaluator

    def run(self, variant: Variant, minutes: float) -> Curve:
        """Trains, evaluates every point, and leaves the curve in the run's folder."""
        directory = self.workdir / f"{variant.name}_{minutes:g}min"
        made_with = dataclasses.asdict(variant) | {
            "minutes": minutes,
            "data": self.identity,
            "config": bert_config(self.model, variant.model),
            **made_by(("torch", "transformers"), CODE),
        }
        found = curve.read(directory)
        if found and found.made_with == made_with:
            return found
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        settings = {
            "blocks": str(self.blocks),
            "vocabulary": str(self.data / TOKENIZER / "vocab.txt"),
            "directory": str(directory),
            "minutes": minutes,
            "learning_rate": variant.learning_rate,
            "batch_size": variant.batch_size,
            "compiled": variant.compiled,
            "model": made_with["config"],
        }
        write_json(directory / "settings.json", settings)
        print(f"{directory.name}: training", flush=True)
        module = "tests.benchmarks.quality.theirs"
        command = [sys.executable, "-m", module, f"--settings={directory / 'settings.json'}"]
        subprocess.run(command, check=True)
        found = Curve(directory.name, made_with, list(self._evaluated(directory)))
        found.save(directory)
        return found

    def found(self, minutes: float) -> list[Curve]:
        """Those of so many minutes that have ended before."""
        curves = (curve.read(folder) for folder in sorted(self.workdir.glob("theirs_*")))
        wanted = {"minutes": minutes, "data": self.identity, **made_by((), CODE)}
        return [each for each in curves if each and wanted.items() <= each.made_with.items()]

    def _evaluated(self, directory: Path) -> Iterator[Point]:
        points = [Point(**p) for p in json.loads((directory / "points.json").read_text("utf-8"))]
        for point in points:
            theirs = directory / str(point.step)
            ours = from_hugging_face(theirs, directory / "converted", self.data / TOKENIZER)
            yield point._replace(losses=self.evaluator(ours))
            shutil.rmtree(ours)
            shutil.rmtree(theirs)


def bert_config(model: ModelConfig, kind: str) -> dict[str, Any]:
    """Fields of BertConfig: the sizes, and with kind "same" all else that ours has otherwise."""
    sizes = {
        "vocab_size": model.vocab_size,
        "max_position_embeddings": model.positions,
        "hidden_size": model.width,
        "num_hidden_layers": model.layers,
        "num_attention_heads": model.heads,
        "intermediate_size": model.feed_forward,
    }
    if kind == PUBLISHED:
        return sizes
    return sizes | {
        "hidden_act": GELU[model.gelu],
        "hidden_dropout_prob": model.dropout,
        "attention_probs_dropout_prob": model.attention_dropout,
        "initializer_range": model.init_stddev,
    }
