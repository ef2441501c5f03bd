"""Hugging Face's train step on one device: `python -m tests.benchmarks.accelerated.theirs JSON`.

A process of its own, started by accelerator.py. BertForPreTraining with its best attention
(scaled_dot_product_attention), torch.compile, autocast to bfloat16, fused AdamW, the decoder at
every position. All rows are full: the mask of ones, which keeps flash attention out of a model
that is compiled, is left out, as it is of one that is not.
"""

import json
import sys
from collections.abc import Callable

import torch
import transformers
from transformers.models.bert import modeling_bert

from tests.benchmarks.accelerated.work import (
    NO_DEVICE,
    PROBES,
    Measured,
    Work,
    give_up,
    largest_batch,
    step_ms,
    tell,
)
from tests.benchmarks.full_rows import VOCABULARY


def make_model(work: Work, device: torch.device) -> transformers.BertForPreTraining:
    """With fresh parameters in float32."""
    name = "_prepare_4d_attention_mask_for_sdpa"
    if not hasattr(modeling_bert, name):
        raise RuntimeError(f"this transformers has no {name}: its attention would keep the mask")
    setattr(modeling_bert, name, lambda *_, **__: None)
    config = work.config().model
    return (
        transformers.BertForPreTraining._from_config(
            transformers.BertConfig(
                vocab_size=config.vocab_size,
                max_position_embeddings=config.positions,
                hidden_size=config.width,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                intermediate_size=config.feed_forward,
                hidden_dropout_prob=config.dropout,
                attention_probs_dropout_prob=config.attention_dropout,
            ),
            attn_implementation="sdpa",
        )
        .to(device)
        .train()
    )


def make_batch(work: Work, batch_size: int, device: torch.device) -> dict[str, torch.Tensor]:
    """Full rows, random tokens; a label of -100 stands where nothing is masked."""
    generator = torch.Generator().manual_seed(0)
    shape = (batch_size, work.length)

    def ids() -> torch.Tensor:
        return torch.randint(5, VOCABULARY, shape, generator=generator)

    order = torch.rand(shape, generator=generator).argsort(dim=1)
    segments = (torch.arange(work.length) >= work.length // 2).long().expand(shape)
    batch = {
        "input_ids": ids(),
        "token_type_ids": segments,
        "labels": torch.where(order < work.predictions, ids(), -100),
        "next_sentence_label": torch.randint(2, (batch_size,), generator=generator),
    }
    return {name: value.contiguous().to(device) for name, value in batch.items()}


def make_step(
    model: torch.nn.Module, work: Work, batch_size: int, device: torch.device
) -> Callable[[], None]:
    """Forward, backward, clipping, update."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01, fused=True)
    batch = make_batch(work, batch_size, device)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16):
            loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def measure(work: Work, batch_size: int, device: torch.device) -> Measured:
    """The time of the compiled step."""
    model = torch.compile(make_model(work, device))
    has_memory = device.type == "cuda"
    if has_memory:
        torch.cuda.reset_peak_memory_stats()
    milliseconds = step_ms(
        make_step(model, work, batch_size, device),
        torch.cuda.synchronize if has_memory else lambda: None,
    )
    return Measured(
        device=torch.cuda.get_device_name() if has_memory else device.type,
        batch_size=batch_size,
        step_ms=milliseconds,
        peak_bytes=torch.cuda.max_memory_allocated() if has_memory else 0,
        planned_bytes=0,
        peak_flops=0.0,
    )


def find_batch_size(work: Work, device: torch.device) -> int:
    """Twice what fits without torch.compile: with it a step needs less, seldom half."""
    if device.type != "cuda":
        return PROBES[0]
    used = {}
    for batch_size in PROBES:
        model = make_model(work, device)
        torch.cuda.reset_peak_memory_stats()
        step = make_step(model, work, batch_size, device)
        for _ in range(2):  # the second beside the optimizer's state
            step()
        used[batch_size] = torch.cuda.max_memory_allocated()
        del model, step
        torch.cuda.empty_cache()
    return 2 * largest_batch(used, torch.cuda.mem_get_info()[1])


def main() -> None:
    """Prints what was measured; without a GPU exits with NO_DEVICE."""
    work = Work(**json.loads(sys.argv[1]))
    if work.device != "cpu" and not torch.cuda.is_available():
        sys.exit(NO_DEVICE)
    device = torch.device(work.device or "cuda")
    torch.set_float32_matmul_precision("high")
    batch_size = work.batch_size or find_batch_size(work, device)
    try:
        tell(measure(work, batch_size, device))
    except torch.OutOfMemoryError:
        give_up(batch_size)


if __name__ == "__main__":
    main()
