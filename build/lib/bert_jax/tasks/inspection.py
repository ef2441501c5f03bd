"""A prepared dataset looked at: rows in words, its numbers, and what is wrong with it."""

import functools
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bert_jax.config import MaskingConfig
from bert_jax.data import dataset
from bert_jax.data.instances import DOES_NOT_FOLLOW
from bert_jax.data.masking import CHOOSE, MaskedRow, mask_row, random_replacements
from bert_jax.data.pitfalls import pitfalls
from bert_jax.data.rendering import LABELS, Markup, render_row
from bert_jax.data.statistics import (
    COMMON,
    SplitStatistics,
    VocabularyStatistics,
    sample_rows,
    split_statistics,
    spread,
    vocabulary_statistics,
)
from bert_jax.errors import InputError
from bert_jax.tasks.dataset_plot import draw_dataset
from bert_jax.text.tokenizer import Tokenizer

UNITS = tuple(CHOOSE)
PLOT = "inspect.png"
SAMPLE_ROWS = 5_000  # of a split: seconds to read


def run(
    data: str | Path,
    *,
    count: int = 3,
    unit: str = "token",
    seed: int = 0,
    plot: str | Path | None = None,
) -> dict[str, Any]:
    """Prints `count` training rows, a table and warnings, and draws a plot.

    Returns {"splits": {split: SplitStatistics}, "vocabulary": VocabularyStatistics,
    "warnings": [str], "plot": Path}, the statistics as dicts. Raises InputError for a
    dataset that is damaged.
    """
    directory = Path(data).absolute()
    manifest = dataset.read_manifest(directory)
    dataset.verify_shards(directory, manifest)
    print(f"{len(manifest['shards'])} shards are as they were written (sha256)")
    tokenizer = dataset.load_tokenizer(directory, manifest)
    draw = _drawer(unit, manifest["length"], tokenizer)
    sources = {split: dataset.RowSource(directory, split) for split in manifest["splits"]}
    _print_rows(sources[dataset.TRAIN], draw, tokenizer, manifest, count=count, seed=seed)

    samples = {
        split: sample_rows(
            (source[index] for index in spread(len(source), SAMPLE_ROWS).tolist()),
            functools.partial(draw, rng=np.random.default_rng(seed)),
        )
        for split, source in sources.items()
    }
    splits = {
        split: split_statistics(counts, manifest["length"], samples[split])
        for split, counts in manifest["splits"].items()
    }
    token_counts = dataset.read_token_counts(directory)
    vocabulary = vocabulary_statistics(token_counts, tokenizer.special)
    print(_table(splits, vocabulary, manifest))
    warnings = pitfalls(manifest, token_counts, tokenizer)
    for warning in warnings:
        print(f"warning: {warning}")
    path = Path(plot) if plot else directory / PLOT
    _draw(
        path,
        manifest["objective"],
        manifest["length"],
        splits,
        samples,
        token_counts,
        vocabulary,
    )
    print(f"plot: {path}")
    return {
        "splits": {split: found._asdict() for split, found in splits.items()},
        "vocabulary": vocabulary._asdict(),
        "warnings": warnings,
        "plot": path,
    }


def _drawer(unit: str, length: int, tokenizer: Tokenizer) -> Callable[..., MaskedRow]:
    """`mask_row` with BERT's shares (arXiv:1810.04805), spans as in ALBERT (arXiv:1909.11942)."""
    masking = MaskingConfig(
        unit=unit,
        span_words=3,
        rate=0.15,
        max_predictions=max(1, length * 20 // 128),  # 20 of 128 tokens, and so 80 of 512
        mask_share=0.8,
        random_share=0.1,
        random_special=True,
    )
    return functools.partial(
        mask_row,
        config=masking,
        mask_id=tokenizer.special.mask,
        replacements=random_replacements(
            masking, vocab_size=tokenizer.vocab_size, special=tokenizer.special
        ),
    )


def _print_rows(
    rows: dataset.RowSource,
    draw: Callable[..., MaskedRow],
    tokenizer: Tokenizer,
    manifest: Mapping[str, Any],
    *,
    count: int,
    seed: int,
) -> None:
    """Each row's masks are a function of the seed and its number alone."""
    markup = Markup.choose(is_terminal=sys.stdout.isatty())
    numbers = np.random.default_rng(seed).permutation(len(rows))[:count].tolist()
    if numbers:
        print(f"\n{markup.legend}")
    for number in numbers:
        row = rows[number]
        print(f"\nrow {number:,} of {len(rows):,}: {len(row.ids)} of {manifest['length']} tokens")
        masked = draw(row, rng=np.random.default_rng([seed, number]))
        print(render_row(row, masked, tokenizer, manifest["objective"], markup))
    print()


def _table(
    splits: Mapping[str, SplitStatistics], vocabulary: VocabularyStatistics, manifest: Mapping
) -> str:
    """A line for every number, a column for every split."""
    not_following = LABELS[manifest["objective"]][DOES_NOT_FOLLOW]
    lines: dict[str, Callable[[SplitStatistics], str]] = {
        "documents": lambda s: f"{s.documents:,}",
        "sentences": lambda s: f"{s.sentences:,}",
        "words": lambda s: f"{s.words:,}",
        "tokens": lambda s: f"{s.tokens:,}",
        "characters per token": lambda s: f"{s.characters_per_token:.2f}",
        "[UNK]": lambda s: f"{s.unknown_share:.2%}",
        "instances": lambda s: f"{s.instances:,}",
        "  labelled": lambda s: f"{s.labelled:,}",
        f"  {not_following} of these": lambda s: _or_none(s.not_following_share, ".1%"),
        f"rows of {manifest['length']} tokens": lambda s: f"{s.rows:,}",
        "  instances per row": lambda s: f"{s.instances_per_row:.2f}",
        "  filled": lambda s: f"{s.filled_share:.2%}",
        "  filled, one instance a row": lambda s: f"{s.unpacked_filled_share:.2%}",
        "  tokens per padding token": lambda s: _or_none(s.tokens_per_padding, ".2f"),
        "  tokens per padding token, one instance a row": lambda s: _or_none(
            s.unpacked_tokens_per_padding, ".2f"
        ),
        "sampled rows, evenly spaced": lambda s: f"{s.sampled_rows:,}",
        "  tokens per instance": lambda s: f"{s.instance_length:.1f}",
        "    of which 5 %, half and 95 % have at most": lambda s: " ".join(
            f"{length:.0f}" for length in s.instance_length_percentiles
        ),
        "  masks per instance": lambda s: f"{s.masks_per_instance:.2f}",
    }
    table = [f"{'':45}" + "".join(f"{split:>14}" for split in splits)]
    for name, shown in lines.items():
        table.append(f"{name:45}" + "".join(f"{shown(found):>14}" for found in splits.values()))
    table += [
        f"{'vocabulary (pieces without special ones)':45}{vocabulary.pieces:>14,}",
        f"{'  occur in training documents':45}{vocabulary.occurring_share:>14.1%}",
        f"{f'  occur {COMMON} times or more':45}{vocabulary.common_share:>14.1%}",
    ]
    return "\n".join(table)


def _or_none(value: float | None, form: str) -> str:
    return "none" if value is None else format(value, form)


def _draw(path: Path, *content: Any) -> None:
    try:
        draw_dataset(path, *content)
    except OSError as error:
        raise InputError(
            f"{path} cannot be written ({error.strerror}): name another file with --plot=FILE."
        ) from None
