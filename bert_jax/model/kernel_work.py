"""What each Pallas kernel does, our own and jax's, by the name it has in a compiled program."""

from collections.abc import Callable, Sequence

from bert_jax.model.kernels import add_norm, attention, dropout, splash
from bert_jax.model.kernels.work import KernelWork, Operand

__all__ = ["KERNELS", "OWN", "KernelWork", "Operand"]

# From a call's operands, on one chip, and the width of the chip's matrix units.
OWN: dict[str, Callable[[Sequence[Operand], int], KernelWork]] = {
    attention.FORWARD: attention.forward_work,
    attention.BACKWARD: attention.backward_work,
    add_norm.FORWARD: add_norm.forward_work,
    add_norm.BACKWARD: add_norm.backward_work,
    dropout.NAME: dropout.work,
}
KERNELS = {**OWN, **splash.WORK}
