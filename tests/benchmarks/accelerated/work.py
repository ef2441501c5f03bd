"""The step that both sides do, and how it is timed."""

import dataclasses
import importlib
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

from ml_collections import ConfigDict

from tests.benchmarks.full_rows import VOCABULARY

PREDICTIONS = {128: 20, 512: 80}  # masked tokens of a row, as published
DROPOUT = 0.1
PROBES = (8, 16)  # rows of the batches whose memory says how much a row needs
ROUNDS = 5
ROUND_SECONDS = 1.0
WARM_UP = 3  # steps

NO_DEVICE, OUT_OF_MEMORY = 2, 3  # exit codes


@dataclasses.dataclass(frozen=True)
class Work:
    """A case of one side, as a process is told it."""

    size: str  # of configs/pretrain_*.py
    length: int
    attention_dropout: float
    batch_size: int  # 0 = as large as fits, a power of two
    device: str  # "" = the accelerator; "cpu" = a model of seconds

    @property
    def predictions(self) -> int:
        """Masked tokens of a row."""
        return PREDICTIONS.get(self.length, round(0.15 * self.length))

    def config(self) -> ConfigDict:
        """The pretraining config of this size, with AdamW; on a CPU its tiny variant."""
        variant = "tiny" if self.device == "cpu" else ""
        config = importlib.import_module(f"configs.pretrain_{self.size}").get_config(variant)
        config.model.update(
            vocab_size=VOCABULARY,
            positions=max(self.length, config.model.positions),
            dropout=DROPOUT,
            attention_dropout=self.attention_dropout,
        )
        config.masking.max_predictions = self.predictions
        config.optimizer.weight_decay = 0.01
        # The device's own generator draws the random bits, where it has one.
        config.prng = "rbg"
        return config


class Measured(NamedTuple):
    """What a process says of its case; 0 = not known on this device."""

    device: str
    batch_size: int
    step_ms: float
    peak_bytes: int  # that the device held
    planned_bytes: int  # that the compiler had said
    peak_flops: float  # a second, of the device

    @property
    def sequences_per_second(self) -> float:
        """Rows through a whole step."""
        return 1000 * self.batch_size / self.step_ms


def largest_batch(bytes_at: dict[int, int], limit: int) -> int:
    """The largest power of two whose bytes, in a straight line through two batches', fit."""
    (few, small), (more, large) = sorted(bytes_at.items())
    a_row = (large - small) / (more - few)
    sizes = (2**power for power in range(16))
    return max((size for size in sizes if small + (size - few) * a_row <= limit), default=1)


def step_ms(
    step: Callable[[], None], wait: Callable[[], None], now: Callable[[], float] = time.perf_counter
) -> float:
    """Median over the rounds; steps are dispatched without waiting, and a round ends when its
    last is done."""

    def seconds(count: int) -> float:
        started = now()
        for _ in range(count):
            step()
        wait()
        return now() - started

    seconds(WARM_UP)
    count = max(1, round(ROUND_SECONDS * WARM_UP / max(seconds(WARM_UP), 1e-9)))
    return 1000 * statistics.median(seconds(count) / count for _ in range(ROUNDS))


def tell(measured: Measured) -> None:
    """As the last line of the output."""
    print(json.dumps(measured._asdict()), flush=True)


def give_up(batch_size: int) -> None:
    """Says that memory does not do for the batch, and ends the process."""
    print(json.dumps({"batch_size": batch_size}), flush=True)
    sys.exit(OUT_OF_MEMORY)
