"""The small parts every block is made of, with Linen's silent defaults set aloud."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float

from bert_jax.config import ModelConfig
from bert_jax.model.kernels import dropout as dropout_kernel
from bert_jax.model.kernels.bits import RESOLUTION, dropped_of
from bert_jax.model.kernels.sharded import divides_rows, dropout_mask
from bert_jax.model.platform import is_tpu


def weight_init(config: ModelConfig) -> nn.initializers.Initializer:
    """Normal with `init_stddev`, cut at two standard deviations and not rescaled."""
    return nn.initializers.truncated_normal(config.init_stddev)


class Dense(nn.Module):
    """One matrix product over the last axis, in the compute dtype unless `dtype` says another.

    The kernel's parameter is `inputs` by `features`, either of which may be several axes. They
    are multiplied as one: heads that stay beside each other need no copy into another layout.
    """

    config: ModelConfig
    inputs: tuple[int, ...]
    features: tuple[int, ...]
    dtype: str = ""

    @nn.compact
    def __call__(self, x: Float[Array, "... inputs"]) -> Float[Array, "... features"]:
        dtype = jnp.dtype(self.dtype or self.config.compute_dtype)
        kernel = self.param(
            "kernel", weight_init(self.config), (*self.inputs, *self.features), jnp.float32
        )
        bias = self.param("bias", nn.initializers.zeros, self.features, jnp.float32)
        matrix = kernel.astype(dtype).reshape(math.prod(self.inputs), math.prod(self.features))
        product = x.astype(dtype) @ matrix
        # In float32, because then its gradient is summed so: more exactly, and on a TPU in a
        # seventh of the time that a sum in bfloat16 takes.
        bias = bias.reshape((1,) * (x.ndim - 1) + (-1,))
        return (product.astype(jnp.float32) + bias).astype(dtype)


def layer_norm(config: ModelConfig, *, name: str):
    """Mean and variance in float32 whatever comes in; the result in the compute dtype."""
    norm = nn.LayerNorm(
        epsilon=config.layer_norm_epsilon,
        dtype=jnp.float32,
        param_dtype=jnp.float32,
        use_fast_variance=False,
        name=name,
    )
    return lambda x: norm(x).astype(config.compute_dtype)


def activation(config: ModelConfig):
    """GELU: Hugging Face's exact form or the original release's tanh approximation."""
    return functools.partial(nn.gelu, approximate=config.gelu == "tanh")


class Dropout(nn.Module):
    """Zeroes a share `rate` of the elements and scales the others up.

    Draws 16 random bits an element, so the rate is met to 1 in 65,536; half the random
    numbers of `flax.linen.Dropout` for the same expectation. On a TPU the chip's own
    generator draws them.
    """

    rate: float
    mesh: Mesh | None

    @nn.compact
    def __call__(self, x: Float[Array, "..."], *, deterministic: bool) -> Float[Array, "..."]:
        dropped = dropped_of(self.rate)
        if deterministic or dropped == 0:
            return x
        if dropped == RESOLUTION:
            return jnp.zeros_like(x)
        scale = RESOLUTION / (RESOLUTION - dropped)
        is_kept = self._is_kept(self.key(), x.shape, dropped)
        return jnp.where(is_kept, x * jnp.asarray(scale, x.dtype), 0)

    def key(self) -> Any:
        """The key that a call would draw with, for a kernel that does."""
        return self.make_rng("dropout")

    def _is_kept(self, key: Any, shape: tuple[int, ...], dropped: int) -> Bool[Array, "..."]:
        mesh = self.mesh
        if is_tpu(mesh) and len(shape) == 3 and divides_rows(mesh, shape[0]):
            if dropout_kernel.fits(length=shape[1], width=shape[2]):
                return dropout_mask(key, shape, rate=self.rate, mesh=mesh, interpret=False) > 0
        return jax.random.bits(key, shape, jnp.uint16) >= dropped
