"""What each of our Pallas kernels does, by the name it has in a compiled program."""

from collections.abc import Callable, Sequence

from bert_jax.model.kernels import add_norm, attention, dropout
from bert_jax.model.kernels.work import KernelWork

__all__ = ["KERNELS", "KernelWork"]

# From the shapes of a call's operands, on one chip.
KERNELS: dict[str, Callable[[Sequence[tuple[int, ...]]], KernelWork]] = {
    attention.FORWARD: attention.forward_work,
    attention.BACKWARD: attention.backward_work,
    add_norm.FORWARD: add_norm.forward_work,
    add_norm.BACKWARD: add_norm.backward_work,
    dropout.NAME: dropout.work,
}
