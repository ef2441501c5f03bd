"""The ways of mixing values by softmax of scores, behind one signature.

All give a token what its own instance holds and padding, instance 0, zeros. They differ in
where they run, and in what they do about dropout.
"""

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, Int

from bert_jax.arrays import HEAD_AXIS, ROW_AXES
from bert_jax.config import ModelConfig
from bert_jax.errors import InputError
from bert_jax.model.kernels import attention as kernel
from bert_jax.model.kernels.sharded import fused_attention
from bert_jax.model.layers import Dropout, add_bias
from bert_jax.model.platform import has_cudnn_attention, is_tpu, platform
from bert_jax.model.rows import divides_rows

# Splash attention takes rows of a multiple of this many tokens.
SPLASH_TOKENS = 128
# cuDNN takes heads of a multiple of 8 up to this size on every GPU that it is for.
CUDNN_HEAD = 128


def attend(
    config: ModelConfig,
    mesh: Mesh | None,
    query: Float[Array, "B T D"],
    key: Float[Array, "B T D"],
    value: Float[Array, "B T D"],
    biases: Float[Array, "3 D"],
    instances: Int[Array, "B T"],
    dropout: Dropout,
    *,
    deterministic: bool,
) -> Float[Array, "B T D"]:
    """The values of what a token sees, mixed; `dropout` is of the probabilities.

    The biases are those of query, key and value, not yet added to them. Raises InputError where
    config.model.attention names what cannot take these rows.
    """
    way = config.attention
    if way == "auto":
        way = _choice(config, mesh, query.shape, deterministic=deterministic)
    inputs = (config, mesh, query, key, value)
    if way == "fused":
        return _fused(*inputs, biases, instances, None if deterministic else dropout)
    products = zip((query, key, value), biases, strict=True)
    inputs = (config, mesh, *(add_bias(*product) for product in products), instances)
    if way == "splash":
        mixed = _splash(*inputs)
    elif way == "cudnn":
        mixed = _cudnn(*inputs)
    elif deterministic and platform(mesh) == "cpu":
        mixed = _plain_on_cpu(*inputs)
    else:
        mixed = _plain(*inputs, lambda weights: dropout(weights, deterministic=deterministic))
    # So far padding has seen padding: no row of scores is masked whole, and no sum is 0.
    return jnp.where(instances[..., None] > 0, mixed, 0)


def _choice(
    config: ModelConfig, mesh: Mesh | None, shape: tuple[int, int, int], *, deterministic: bool
) -> str:
    """The fastest way there is for these rows where the mesh's devices are."""
    rows, length, _ = shape
    if is_tpu(mesh) and divides_rows(mesh, rows) and _fits_kernel(config, length):
        return "fused"
    has_dropout = config.attention_dropout > 0 and not deterministic
    is_for_cudnn = has_cudnn_attention(mesh) and config.compute_dtype == "bfloat16"
    head_size = config.width // config.heads
    if is_for_cudnn and not has_dropout and head_size % 8 == 0 and head_size <= CUDNN_HEAD:
        return "cudnn"
    return "plain"


def _fits_kernel(config: ModelConfig, length: int) -> bool:
    head_size = config.width // config.heads
    return kernel.fits(length=length, heads=config.heads, head_size=head_size)


def _plain(config, mesh, query, key, value, instances, dropout):
    """Softmax in float32, and the scores in the chip's large memory."""
    query, key, value = (_heads_apart(config, x) for x in (query, key, value))
    scores = jnp.einsum("BqHK,BkHK->BHqk", query * query.shape[-1] ** -0.5, key)
    weights = dropout(jax.nn.softmax(_masked(scores, instances), axis=-1).astype(value.dtype))
    return _heads_together(jnp.einsum("BHqk,BkHK->BqHK", weights, value))


def _plain_on_cpu(config, mesh, query, key, value, instances):
    """The same without dropout, in the order that CPUs are faster in: heads before tokens in both
    products, and divided are the values mixed, not their weights. Gradients are no faster so."""
    query, key, value = (_heads_apart(config, x).swapaxes(1, 2) for x in (query, key, value))
    scores = jnp.einsum("BHqK,BHkK->BHqk", query * query.shape[-1] ** -0.5, key)
    scores = _masked(scores, instances)
    weights = jnp.exp(scores - scores.max(axis=-1, keepdims=True))
    mixed = jnp.einsum("BHqk,BHkK->BHqK", weights.astype(value.dtype), value)
    mixed = mixed / weights.sum(axis=-1, keepdims=True)
    return _heads_together(mixed.swapaxes(1, 2).astype(value.dtype))


def _fused(config, mesh, query, key, value, biases, instances, dropout):
    """Our kernels; on a CPU interpreted, which is for tests."""
    rows, length, _ = query.shape
    if platform(mesh) not in ("tpu", "cpu") or not divides_rows(mesh, rows):
        _refuse(config, "a mesh of TPUs that the rows divide over")
    if not _fits_kernel(config, length):
        _refuse(config, f"rows of 128, 256, 384 or 512 tokens, not {length}")
    rate = config.attention_dropout if dropout else 0.0
    return fused_attention(
        query,
        key,
        value,
        biases,
        instances,
        heads=config.heads,
        rate=rate,
        random_key=dropout.key() if rate else None,
        mesh=mesh,
        interpret=not is_tpu(mesh),
    )


def _splash(config, mesh, query, key, value, instances):
    """The kernel that comes with jax, for TPUs: without dropout, rows of any length."""
    rows, length, _ = query.shape
    if platform(mesh) not in ("tpu", "cpu") or not divides_rows(mesh, rows):
        _refuse(config, "a mesh of TPUs that the rows divide over")
    if length % SPLASH_TOKENS:
        _refuse(config, f"rows of a multiple of {SPLASH_TOKENS} tokens, not {length}")
    ways = mesh.shape[HEAD_AXIS]
    over, heads = (HEAD_AXIS, config.heads // ways)
    if config.heads % ways:  # all of the axis computes every head
        over, heads = (None, config.heads)
    attention = splash.make_splash_mha(
        masks.MultiHeadMask([masks.FullMask((length, length))] * heads),
        head_shards=1,
        q_seq_shards=1,
        interpret=not is_tpu(mesh),
    )

    def part(query, key, value, instances):
        return jax.vmap(attention)(query, key, value, splash.SegmentIds(instances, instances))

    by_head = PartitionSpec(ROW_AXES, over)
    spread = jax.shard_map(
        part,
        mesh=mesh,
        in_specs=(by_head, by_head, by_head, PartitionSpec(ROW_AXES)),
        out_specs=by_head,
        check_vma=False,
    )
    query, key, value = (_heads_apart(config, x).swapaxes(1, 2) for x in (query, key, value))
    mixed = spread(query * query.shape[-1] ** -0.5, key, value, instances)
    return _heads_together(mixed.swapaxes(1, 2).astype(value.dtype))


def _cudnn(config, mesh, query, key, value, instances):
    """cuDNN's, for GPUs; jax hands it no dropout."""
    if not has_cudnn_attention(mesh):
        _refuse(config, "a mesh of NVIDIA's GPUs, Ampere or later")
    query, key, value = (_heads_apart(config, x) for x in (query, key, value))
    mixed = jax.nn.dot_product_attention(
        query, key, value, mask=_same_instance(instances), implementation="cudnn"
    )
    return _heads_together(mixed)


def _refuse(config: ModelConfig, wanted: str) -> None:
    raise InputError(
        f"config.model.attention={config.attention} needs {wanted}: set it to auto, which takes"
        " what fits."
    )


def _masked(
    scores: Float[Array, "B H T T"], instances: Int[Array, "B T"]
) -> Float[Array, "B H T T"]:
    """In float32, and the least of it where a query is not to see a key."""
    least = jnp.finfo(jnp.float32).min
    return jnp.where(_same_instance(instances), scores.astype(jnp.float32), least)


def _same_instance(instances: Int[Array, "B T"]) -> Array:
    """[B, 1, query, key]: which key a query of any head sees."""
    return (instances[:, :, None] == instances[:, None, :])[:, None]


def _heads_apart(config: ModelConfig, x: Float[Array, "B T D"]) -> Float[Array, "B T H K"]:
    return x.reshape(*x.shape[:2], config.heads, -1)


def _heads_together(x: Float[Array, "B T H K"]) -> Float[Array, "B T D"]:
    return x.reshape(*x.shape[:2], -1)
