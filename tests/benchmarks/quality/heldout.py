"""One evaluator for the models of both sides: the same rows, the same masks, the same code."""

import contextlib
import dataclasses
import functools
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
from jaxtyping import PyTree

from bert_jax.arrays import PretrainBatch
from bert_jax.config import ModelConfig, PretrainConfig
from bert_jax.model.bert import MlmModel
from bert_jax.tasks import conversion, saved_model
from bert_jax.tasks.phases import open_phases
from bert_jax.training.loop import evaluate
from bert_jax.training.losses import cross_entropy
from bert_jax.training.metrics import Mean
from bert_jax.training.step import Objective, make_eval_step
from tests.benchmarks.quality.text import mask_blocks

BLOCKS, ROWS = "blocks", "rows"  # text cut anywhere, as theirs; packed instances, as ours
BATCH_SIZE = 16
SEED = 0


class Evaluator:
    """Held-out masked cross-entropy in nats on each kind of rows."""

    def __init__(self, batches: dict[str, Sequence[PretrainBatch]]):
        self._batches = batches

    def __call__(self, workdir: Path, step: int | None = None) -> dict[str, float]:
        """Of the newest checkpoint in a workdir, or of that of a step."""
        found = saved_model.load(workdir)
        if step is not None:
            found = dataclasses.replace(found, step=step)
        shapes = found.param_shapes
        params = found.modules({name: shapes[name] for name in ("encoder", "mlm")})
        eval_step = _eval_step(found.model)
        return {
            kind: evaluate(eval_step, params, iter(batches))["mlm_loss"]
            for kind, batches in self._batches.items()
        }


def heldout_batches(config: PretrainConfig, blocks: Any) -> dict[str, Sequence[PretrainBatch]]:
    """The held-out rows of the dataset of `config`, masks as in its training log, and the
    held-out `blocks`."""
    _, (phase, *_) = open_phases(config, None)
    return {
        BLOCKS: mask_blocks(
            blocks,
            phase.data.tokenizer.special,
            vocab_size=phase.data.tokenizer.vocab_size,
            batch_size=BATCH_SIZE,
            seed=SEED,
        ),
        ROWS: list(dataclasses.replace(phase, batch_size=BATCH_SIZE).heldout_batches()),
    }


def from_hugging_face(source: Path, to: Path, tokenizer: Path) -> Path:
    """A directory of transformers as a workdir; what became of each tensor is not printed."""
    options = conversion.Options(
        source=str(source),
        to=str(to),
        format="bert_jax",
        model_config="",
        tokenizer=str(tokenizer),
        allow_missing="",
        allow_unknown="",
        add_words="",
        positions=0,
    )
    with contextlib.redirect_stdout(io.StringIO()):
        conversion.run(options)
    return to


@functools.cache
def _eval_step(config: ModelConfig) -> Callable[[PyTree, PyTree], dict[str, Mean]]:
    model = MlmModel(config, mesh=None)

    def losses(params: PyTree, batch: PretrainBatch, key: jax.Array | None):
        logits = model.apply(
            {"params": params}, batch.tokens, batch.mask_positions, deterministic=key is None
        )
        return {"mlm_loss": cross_entropy(logits, batch.mask_labels, batch.mask_weights)}, {}

    return make_eval_step(Objective(weights=lambda batch: {}, losses=losses))
