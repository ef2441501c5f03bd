"""What each choice that makes a step fast on TPUs is worth, by the TPU compiler.

    pip install -e .[tpu-plan]
    python -m tests.benchmarks.planned_changes --topology=v5e:4x4

With `--peer`, which takes the extra `peers` too, there is a last line for Hugging Face's Flax BERT
doing the same, every chip with all parameters.

The step of a config in configs/ is planned (`bert_jax.plan --fast`) as it is, and without each
of CHANGES, its state spread over all chips by fsdp. Kernels and exchanges go by the plan's
formulas, the rest is the compiler's but for gathers. In place of a kernel stands what XLA makes of
the same arithmetic; where biases are added apart, the kernels add zeros.
"""

import argparse
import contextlib
import importlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
from flax import linen as nn

from bert_jax.config import PretrainConfig
from bert_jax.fields import Values, build
from bert_jax.model import attend, layers
from bert_jax.model.kernels import add_norm, dropout
from bert_jax.tasks.plan_report import GIB
from bert_jax.tasks.planned_step import Rows
from bert_jax.tasks.planning import INSTANCES, VOCABULARY
from bert_jax.tasks.slice_plan import Slice, Work, plan_slice
from bert_jax.tasks.step_cost import EXCHANGES, PALLAS_KERNELS
from bert_jax.training import hardware
from tests.benchmarks import planned_peer


class Change(NamedTuple):
    """One that can be undone: in the config, or in what the code calls."""

    name: str
    undo: Callable[[Values], None] = lambda config: None
    patches: tuple[tuple[Any, str, Any], ...] = ()  # of a module, a name, what stands for it


def _all_places(config: Values) -> None:
    config.masking.max_predictions = config.model.positions


def _plain_attention(config: Values) -> None:
    config.model.attention = "plain"


def _whole_state(config: Values) -> None:
    config.mesh.update(data=config.mesh.data * config.mesh.fsdp, fsdp=1)


def _never(shape: tuple[int, ...]) -> bool:
    return False


def _attention_of_sums(query, key, value, biases, *rest, **keywords):
    sums = map(layers.add_bias, (query, key, value), biases)
    return FUSED_ATTENTION(*sums, jnp.zeros_like(biases), *rest, **keywords)


def _add_norm_of_sums(x, update, update_bias, *rest, **keywords):
    total = layers.add_bias(update, update_bias)
    return ADD_NORM_OF(x, total, jnp.zeros_like(update_bias), *rest, **keywords)


FUSED_ATTENTION, ADD_NORM_OF = attend.fused_attention, layers.add_norm_of
CHANGES = (
    Change("vocabulary at the masked places alone", _all_places),
    Change("attention and its dropout in a kernel", _plain_attention),
    Change(
        "other dropout, residual sum and LayerNorm in kernels",
        patches=((add_norm, "fits", _never), (dropout, "fits", _never)),
    ),
    Change(
        "GELU by erf, of which the input is kept",
        patches=((layers, "_gelu", lambda x: nn.gelu(x, approximate=False)),),
    ),
    Change(
        "biases added in the kernels",
        patches=(
            (attend, "fused_attention", _attention_of_sums),
            (layers, "add_norm_of", _add_norm_of_sums),
        ),
    ),
    Change("parameters and moments spread over the chips", _whole_state),
    Change(
        "windows of 48 MiB on chip, products whole",
        patches=((hardware, "COMPILER_OPTIONS", {}),),
    ),
)


@contextlib.contextmanager
def undone(config: Values, change: Change | None) -> Iterator[Work]:
    """The work without it: in the config, and in the code for as long as the context lasts."""
    with contextlib.ExitStack() as stack:
        if change:
            change.undo(config)
            for patch in change.patches:
                stack.enter_context(mock.patch.object(*patch))
        yield Work(build(PretrainConfig, config), (Rows(config.model.positions, INSTANCES),))


def cells(numbers: dict[str, Any]) -> list[str]:
    """Of a plan: times, which are not known where memory ran out, and what a chip needs."""
    times: list[str] = ["-"] * 4
    if step := numbers["step_ms"]:
        by_formula = [numbers["by_formula"].get(each, 0.0) for each in (PALLAS_KERNELS, EXCHANGES)]
        times = [f"{each:.2f}" for each in (step - sum(by_formula), *by_formula, step)]
    said = "" if numbers["fits"] else " (does not fit)"
    return [*times, f"{numbers['bytes_per_chip'] / GIB:.2f}{said}"]


def line(name: str, columns: Sequence[str]) -> str:
    """Of the table."""
    return f"{name:64}" + "".join(f"{each:>11}" for each in columns)


def main() -> None:
    """Prints a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--topology", default="v5e:4x4")
    parser.add_argument("--config", default="pretrain_base", help="name in configs/")
    parser.add_argument("--peer", action="store_true", help="Hugging Face's Flax BERT too")
    args = parser.parse_args()
    where = Slice.named(args.topology)
    jax.config.update("jax_platforms", "cpu")  # the devices here take no part

    def make_config() -> Values:
        config = importlib.import_module(f"configs.{args.config}").get_config()
        config.mesh.update(data=1, fsdp=len(where.devices))
        config.model.vocab_size = VOCABULARY
        return config

    columns = ("rest", "kernels", "exchanges", "step, ms", "GiB")
    print(line(args.topology, columns))
    for change in (None, *CHANGES):
        with undone(make_config(), change) as work:
            numbers = plan_slice(work, where, fast=True).numbers()
        name = f"without: {change.name}" if change else "as it is"
        print(line(name, cells(numbers)), flush=True)
    if args.peer:
        with undone(make_config(), None) as work:
            numbers = planned_peer.plan(work.config, where)
        print(line(planned_peer.NAME, cells(numbers)))


if __name__ == "__main__":
    main()
