"""Hugging Face's run_mlm.py for so many minutes, on blocks of text that are cut already.

    python -m tests.benchmarks.quality.theirs --settings=FILE.json

A process of its own, started by time_to_quality.py. What Trainer does by default, without
Trainer: AdamW (fused, no weight decay), clipping at 1, no warm-up, a rate that falls in a
straight line to 0, masks of DataCollatorForLanguageModeling, float32, the decoder at every
position. How far the rate has fallen goes by the clock, so that it is 0 when the time is up.
Blocks come from memory, which is faster than from a file. Saving is not counted.
"""

import argparse
import dataclasses
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from bert_jax.training.clock import SAVING, STEPPING, Clock
from bert_jax.workdir import write_json
from tests.benchmarks.quality.curve import POINTS, Point, training_seconds
from tests.benchmarks.quality.text import RATE

CLIP_NORM = 1.0
POINTS_FILE = "points.json"


@dataclasses.dataclass(frozen=True)
class Settings:
    """Of one run; `model` are fields of BertConfig."""

    blocks: str  # an .npy file
    vocabulary: str
    directory: str  # gets a folder a point, and the points
    minutes: float
    learning_rate: float
    batch_size: int
    compiled: bool
    model: dict[str, Any]


def batches(settings: Settings) -> Iterator[dict[str, torch.Tensor]]:
    """Batches for ever, every epoch in another order, masks drawn anew."""
    tokenizer = transformers.BertTokenizerFast(settings.vocabulary)
    specials = [tokenizer.cls_token_id, tokenizer.sep_token_id]
    blocks = np.load(settings.blocks)
    rows = [
        {
            "input_ids": block.tolist(),
            "token_type_ids": [0] * len(block),
            "attention_mask": [1] * len(block),
            "special_tokens_mask": np.isin(block, specials).astype(int).tolist(),
        }
        for block in blocks
    ]
    loader = torch.utils.data.DataLoader(
        rows,
        batch_size=settings.batch_size,
        shuffle=True,
        collate_fn=transformers.DataCollatorForLanguageModeling(tokenizer, mlm_probability=RATE),
    )
    while True:
        yield from loader


def train(settings: Settings) -> list[Point]:
    """Trains, and saves the model at every point."""
    torch.manual_seed(0)
    model = transformers.BertForMaskedLM(transformers.BertConfig(**settings.model)).train()
    forward = torch.compile(model) if settings.compiled else model
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings.learning_rate, weight_decay=0.0, fused=True
    )
    stream, points = batches(settings), []
    step = tokens = 0
    clock = Clock(time.time())
    with clock.spend(STEPPING):
        while (used := training_seconds(clock.spent()) / (60 * settings.minutes)) < 1:
            if used * POINTS >= len(points) + 1:
                points.append(_save(model, settings, clock, step, tokens))
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * (1 - used)
            batch = next(stream)
            forward(**batch).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
            optimizer.step()
            optimizer.zero_grad()
            step += 1
            tokens += batch["input_ids"].numel()
        points.append(_save(model, settings, clock, step, tokens))
    return points


def _save(
    model: transformers.BertForMaskedLM, settings: Settings, clock: Clock, step: int, tokens: int
) -> Point:
    with clock.spend(SAVING):
        directory = Path(settings.directory) / str(step)
        model.save_pretrained(directory)
        return Point(training_seconds(clock.spent()), step, tokens, {})


def main() -> None:
    """Trains as the file says, and leaves the points beside the models."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--settings", type=Path, required=True)
    settings = Settings(**json.loads(parser.parse_args().settings.read_text("utf-8")))
    points = train(settings)
    write_json(Path(settings.directory) / POINTS_FILE, [point._asdict() for point in points])


if __name__ == "__main__":
    main()
