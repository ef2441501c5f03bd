"""The small parts every block is made of, with Linen's silent defaults set aloud."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.sharding import Mesh
from jaxtyping import Array, Float

from bert_jax.config import ModelConfig
from bert_jax.model.kernels import add_norm as add_norm_kernel
from bert_jax.model.kernels import dropout as dropout_kernel
from bert_jax.model.kernels.bits import RESOLUTION, dropped_of, kept_by_place, kept_scale
from bert_jax.model.kernels.sharded import add_norm_of, drop
from bert_jax.model.platform import is_tpu, platform
from bert_jax.model.rows import divides_rows, keep_rows


def weight_init(config: ModelConfig) -> nn.initializers.Initializer:
    """Normal with `init_stddev`, cut at two standard deviations and not rescaled: that leaves 0.88
    of it, as the original release has."""
    return nn.initializers.truncated_normal(config.init_stddev)


def fresh_head_init(config: ModelConfig) -> nn.initializers.Initializer:
    """Normal with `init_stddev`, for a head on a trained encoder, as Hugging Face has it.

    Early in a fine-tuning, what the encoder learns counts by the size of the head's weights.
    """
    return nn.initializers.normal(config.init_stddev)


class Dense(nn.Module):
    """A matrix product over the last axis, in the compute dtype unless `dtype` says another,
    and the bias to add to it, which not seldom costs less where the sum is used.
    `init` is the kernel's, weight_init unless said; of `mesh` see `by_token`.

    The kernel's parameter is `inputs` by `features`, either of which may be several axes. They
    are multiplied as one: heads that stay beside each other need no copy into another layout.
    """

    config: ModelConfig
    inputs: tuple[int, ...]
    features: tuple[int, ...]
    dtype: str = ""
    init: nn.initializers.Initializer | None = None
    mesh: Mesh | None = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "... inputs"]
    ) -> tuple[Float[Array, "... features"], Float[Array, "features"]]:
        dtype = jnp.dtype(self.dtype or self.config.compute_dtype)
        init = self.init or weight_init(self.config)
        kernel = self.param("kernel", init, (*self.inputs, *self.features), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, self.features, jnp.float32)
        matrix = kernel.astype(dtype).reshape(math.prod(self.inputs), math.prod(self.features))
        product = by_token(lambda x: x @ matrix, x.astype(dtype), self.mesh)
        return product, bias.reshape(-1)


def by_token(
    product: Callable[[Float[Array, "... D"]], Float[Array, "... F"]],
    x: Float[Array, "... D"],
    mesh: Mesh | None,
) -> Float[Array, "... F"]:
    """The product of each vector with a matrix; `mesh` is that which they lie on.

    On CPUs as if a batch were one row: where the matrix's gradient is a sum over two axes, XLA
    copies one of its factors there, transposed, which takes up to a third of the time of both
    gradients. A TPU's step loses by it.
    """
    if platform(mesh) != "cpu":
        return product(x)
    flat = product(x.reshape(-1, x.shape[-1]))
    return flat.reshape(*x.shape[:-1], flat.shape[-1])


def add_bias(product: Float[Array, "... F"], bias: Float[Array, "F"]) -> Float[Array, "... F"]:
    """The sum, in the dtype of the product.

    It is taken in float32, because then the bias's gradient is: more exactly, and on a TPU in
    a seventh of the time that a sum in bfloat16 takes.
    """
    ahead = (1,) * (product.ndim - 1)
    return (product.astype(jnp.float32) + bias.reshape(*ahead, -1)).astype(product.dtype)


class LayerNorm(nn.Module):
    """Mean and variance in float32 whatever comes in; the result in the compute dtype."""

    config: ModelConfig

    @nn.compact
    def __call__(self, x: Float[Array, "... D"]) -> Float[Array, "... D"]:
        return _normalise(self.config, x, *_scale_and_bias(self))


class AddNorm(nn.Module):
    """LayerNorm of a sum whose second part is dropped out; on a TPU one kernel."""

    config: ModelConfig
    mesh: Mesh | None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B T D"],
        update: tuple[Float[Array, "B T D"], Float[Array, "D"]],
        dropout: "Dropout | None",
    ) -> Float[Array, "B T D"]:
        """`update` comes with the bias to add to it; `dropout` None leaves it whole."""
        config, mesh = self.config, self.mesh
        scale, bias = _scale_and_bias(self)
        if not (is_tpu(mesh) and add_norm_kernel.fits(x.shape) and divides_rows(mesh, x.shape[0])):
            total = add_bias(*update)
            total = x + (dropout(total, deterministic=False) if dropout else total)
            return _normalise(config, keep_rows(mesh, total), scale, bias)
        rate = dropout.rate if dropout else 0.0
        return add_norm_of(
            x,
            *update,
            scale,
            bias,
            epsilon=config.layer_norm_epsilon,
            rate=rate,
            random_key=dropout.key() if rate else None,
            mesh=mesh,
            interpret=False,
        )


def _scale_and_bias(module: nn.Module) -> tuple[Float[Array, "D"], Float[Array, "D"]]:
    shape = (module.config.width,)
    return (
        module.param("scale", nn.initializers.ones, shape, jnp.float32),
        module.param("bias", nn.initializers.zeros, shape, jnp.float32),
    )


def _normalise(
    config: ModelConfig, x: Float[Array, "... D"], scale: Float[Array, "D"], bias: Float[Array, "D"]
) -> Float[Array, "... D"]:
    x = x.astype(jnp.float32)
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred * centred).mean(axis=-1, keepdims=True)
    ahead = (1,) * (x.ndim - 1)
    factor = jax.lax.rsqrt(variance + config.layer_norm_epsilon) * scale.reshape(*ahead, -1)
    return (centred * factor + bias.reshape(*ahead, -1)).astype(config.compute_dtype)


def activation(config: ModelConfig):
    """GELU: Hugging Face's exact form or the original release's tanh approximation."""
    return functools.partial(nn.gelu, approximate=True) if config.gelu == "tanh" else _gelu


@jax.custom_vjp
def _gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    # By erf, where flax takes erfc: that is as exact in the sum and takes twice the time.
    wide = x.astype(jnp.float32)
    return (wide * _normal_below(wide)).astype(x.dtype)


def _gelu_backward(x: Float[Array, "..."], gradient: Float[Array, "..."]):
    wide = x.astype(jnp.float32)
    density = jnp.exp(-0.5 * wide * wide) * (2 * math.pi) ** -0.5
    slope = _normal_below(wide) + wide * density
    return ((gradient.astype(jnp.float32) * slope).astype(x.dtype),)


# Only the input is kept: what is made of it is made again.
_gelu.defvjp(lambda x: (_gelu(x), x), _gelu_backward)


def _normal_below(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The share of a normal distribution below x."""
    return 0.5 * (1 + jax.lax.erf(x * 2**-0.5))


class Dropout(nn.Module):
    """Zeroes a share `rate` of the elements and scales the others up.

    The rate is met to 1 in 65,536. On a TPU the chip's own generator draws the bits, elsewhere
    a hash.
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
        key, mesh = self.key(), self.mesh
        if is_tpu(mesh) and dropout_kernel.fits(x.shape) and divides_rows(mesh, x.shape[0]):
            return drop(x, rate=self.rate, random_key=key, mesh=mesh, interpret=False)
        is_kept = kept_by_place(key, x.shape, dropped)
        return jnp.where(is_kept, x * jnp.asarray(kept_scale(dropped), x.dtype), 0)

    def key(self) -> Any:
        """The key that a call would draw with, for a kernel that does."""
        return self.make_rng("dropout")
