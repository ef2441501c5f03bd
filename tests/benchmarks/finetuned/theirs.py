"""One seed with Hugging Face PyTorch, on the CPU:
`python -m tests.benchmarks.finetuned.theirs SPEC.json RESULT.json`.

As run_glue_no_trainer.py and the Trainer do it: AdamW (fused, the Trainer's own choice) with no
decay on biases and LayerNorms, gradients clipped, a linear schedule, random batches padded to
the longest row by transformers' collator. Rows, token ids, metrics, the steps that are followed
by a validation and the choice of the best of them are ours.
"""

import copy
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from torch.utils.data import DataLoader
from transformers.trainer_pt_utils import LengthGroupedSampler

from bert_jax import workdir as wd
from bert_jax.config import OptimizerConfig
from bert_jax.data.epochs import ordered_batches
from bert_jax.fields import build
from bert_jax.finetune_config import FinetuneConfig
from bert_jax.tasks.forward import EVAL_BATCH
from bert_jax.tasks.splits import TEST, TRAIN, VALIDATION
from bert_jax.tasks.tag import Prediction
from bert_jax.tasks.tuning import validation_steps
from bert_jax.tasks.validations import Validations
from tests.benchmarks.finetuned.report import Result, Seconds
from tests.benchmarks.finetuned.rows import Opened, open_rows

NOT_RATED = -100  # of a token without a label, in torch's cross-entropy


class Peer(NamedTuple):
    """What stands for one of our tasks there."""

    model: str  # a class of transformers, and so is the next
    collator: str
    changes: dict[str, Any]  # of the model's config
    labels: Callable[[Any], Any]  # of an example
    predictions: Callable[[torch.Tensor], Any]  # an entry for each row of logits


def _of_text(problem: str, labels: Callable, predictions: Callable) -> Peer:
    kinds = "BertForSequenceClassification", "DataCollatorWithPadding"
    return Peer(*kinds, {"problem_type": problem}, labels, predictions)


def _tags(logits: torch.Tensor) -> list[Prediction]:
    best, tags = logits.softmax(-1).max(-1)
    return [Prediction(*row) for row in zip(tags.numpy(), best.numpy(), strict=True)]


PEERS = {
    "classify": _of_text(
        "single_label_classification", lambda e: int(e.target), lambda x: x.softmax(-1).numpy()
    ),
    "multilabel": _of_text(
        "multi_label_classification", lambda e: e.target.tolist(), lambda x: x.sigmoid().numpy()
    ),
    "regress": _of_text("regression", lambda e: float(e.target), lambda x: x[:, 0].numpy()),
    "tag": Peer(
        *("BertForTokenClassification", "DataCollatorForTokenClassification", {}),
        lambda e: [NOT_RATED if label < 0 else int(label) for label in e.labels],
        _tags,
    ),
}


class Tuning:
    """A model, its rows and what moves it."""

    def __init__(self, config: FinetuneConfig, start: str, *, group_by_length: bool):
        torch.manual_seed(config.seed)
        self._config = config
        self._peer = PEERS[config.task]
        self._data: Opened = open_rows(config)
        self.model = getattr(transformers, self._peer.model).from_pretrained(
            start,
            num_labels=len(self._data.task.labels),
            hidden_dropout_prob=config.model.dropout,
            attention_probs_dropout_prob=config.model.attention_dropout,
            **self._peer.changes,
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(start)
        self._collate = getattr(transformers, self._peer.collator)(tokenizer)
        self._batches = self._loader(group_by_length)
        self._steps_per_epoch = len(self._batches)

    def go(self) -> Result:
        """Trains, and evaluates the best on the test rows."""
        config, data, model = self._config, self._data, self.model
        total = self._steps_per_epoch * config.epochs
        optimizer = make_optimizer(model, config.optimizer)
        warmup = round(config.optimizer.warmup_fraction * total)
        schedule = transformers.get_linear_schedule_with_warmup(optimizer, warmup, total)
        validations = Validations(
            [],
            config.metric,
            higher=data.task.METRICS[config.metric],
            patience=config.patience,
        )
        validated = validation_steps(config, self._steps_per_epoch)
        training = evaluating = 0.0
        best = model.state_dict()
        model.train()
        began = time.perf_counter()
        for step, batch in enumerate(self._epochs(), 1):
            update(model, batch, optimizer, config.optimizer.clip_norm)
            schedule.step()
            if step not in validated:
                continue
            training, began = training + time.perf_counter() - began, time.perf_counter()
            metrics = self.score(VALIDATION)
            evaluating += time.perf_counter() - began
            point = {"step": step, "split": VALIDATION, **metrics}
            print(json.dumps(point), flush=True)
            validations.add(point)
            if validations.best() is point:
                best = copy.deepcopy(model.state_dict())
            if validations.is_over():
                break
            began = time.perf_counter()
        model.load_state_dict(best)
        found, names = validations.best(), data.task.METRICS
        return Result(
            validation={name: found[name] for name in names if name in found},
            test=self.score(TEST),
            steps=step,
            seconds=Seconds(training, 0.0, evaluating),
        )

    def score(self, split: str) -> dict[str, float]:
        """By our definitions, with dropout off."""
        task, rows, examples = self._data.task, self._data.rows[split], self._data.examples[split]
        found: list[Any] = [None] * len(examples)
        lengths = [example.length for example in examples]
        self.model.eval()
        with torch.inference_mode():
            for indices in ordered_batches(lengths, batch_size=EVAL_BATCH):
                batch = self._collate([self._features(examples[i]) for i in indices])
                del batch["labels"]
                predictions = self._peer.predictions(self.model(**batch).logits)
                for index, prediction in zip(indices, predictions, strict=True):
                    found[index] = prediction
        self.model.train()
        return task.score(rows, task.answers(rows, examples, found), self._config.data)

    def _loader(self, group_by_length: bool) -> DataLoader:
        examples = self._data.examples[TRAIN]
        generator = torch.Generator().manual_seed(self._config.seed)
        lengths = [example.length for example in examples]
        size = self._config.batch_size
        sampler = (
            LengthGroupedSampler(size, lengths=lengths, generator=generator)
            if group_by_length
            else torch.utils.data.RandomSampler(examples, generator=generator)
        )
        features = [self._features(example) for example in examples]
        return DataLoader(features, size, sampler=sampler, collate_fn=self._collate)

    def _epochs(self) -> Iterator[Any]:
        for _ in range(self._config.epochs):
            yield from self._batches

    def _features(self, example: Any) -> dict[str, Any]:
        ids, second = example.tokens
        return {
            "input_ids": ids.tolist(),
            "token_type_ids": [int(place >= second) for place in range(len(ids))],
            "attention_mask": [1] * len(ids),
            "labels": self._peer.labels(example),
        }


def make_optimizer(model: torch.nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """Decay on all but biases and LayerNorms, the parameters of one axis."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        groups,
        lr=config.learning_rate,
        betas=(config.b1, config.b2),
        eps=config.epsilon,
        fused=True,
    )


def update(
    model: torch.nn.Module, batch: Any, optimizer: torch.optim.Optimizer, clip_norm: float
) -> None:
    """One step, without that of the schedule."""
    model(**batch).loss.backward()
    if clip_norm:
        torch.nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
    optimizer.step()
    optimizer.zero_grad()


def main() -> None:
    """Reads the spec, writes the result."""
    spec = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    config = build(FinetuneConfig, spec["config"])
    tuning = Tuning(config, spec["start"], group_by_length=spec["group_by_length"])
    wd.write_json(Path(sys.argv[2]), tuning.go().json())


if __name__ == "__main__":
    main()
