"""Self-attention of whole rows as TPU kernels: what is quadratic in the length stays on chip.

A row of scores of up to MAX_LENGTH tokens fits in a core's memory, so softmax is taken of it
in one piece; the backward pass computes the probabilities again from the inputs and from the
logarithm of their sum. Scores stand transposed, keys down and queries across: what softmax
sums over then runs down the registers, and no product needs a transposed matrix of scores.
Heads narrower than a register's 128 lanes lie side by side in it. A product with one of them
has the others' lanes set to 0, which costs the matrix unit nothing: it would pad them.
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Float, Int

from bert_jax.model.kernels.bits import draw_of, is_kept, kept_scale
from bert_jax.model.kernels.work import KernelWork, Operand, matmul_flops

LANES = 128
MAX_LENGTH = 512
FORWARD, BACKWARD = "attention_forward", "attention_backward"

MASKED = -1e30  # a score nothing is left of after softmax
NOTHING = 1e30  # a logarithm of a sum that leaves nothing of any score


@dataclasses.dataclass(frozen=True)
class Plan:
    """What does not change from call to call."""

    head_size: int
    dropped: int  # share of the probabilities set to 0, in units of 1 / RESOLUTION
    interpret: bool

    @property
    def heads(self) -> int:
        """Heads side by side in one block."""
        return LANES // self.head_size


def fits(*, length: int, heads: int, head_size: int) -> bool:
    """Whether rows and heads of these sizes fill blocks without remainder."""
    return (
        length % LANES == 0
        and 0 < length <= MAX_LENGTH
        and LANES % head_size == 0
        and heads % (LANES // head_size) == 0
    )


def forward(
    plan: Plan,
    seed: Int[Array, "heads 4"],
    instances: Int[Array, "B 1 T"],
    query: Float[Array, "B T D"],
    key: Float[Array, "B T D"],
    value: Float[Array, "B T D"],
    biases: Float[Array, "3 D"],
) -> tuple[Float[Array, "B T D"], Float[Array, "B blocks heads T"]]:
    """The mixed values, and the logarithm of the sum of each query's exponentials.

    `seed` holds for each head of a block two random words, then the numbers of the first row
    and the first block of heads in the whole batch. The biases are added to query, key and
    value before anything else.
    """
    rows, length, width = query.shape
    whole, tokens, statistics, of_block, _ = _blocks(plan, length)
    return pl.pallas_call(
        functools.partial(_forward, plan),
        grid=(rows, width // LANES),
        in_specs=[_SEED, tokens, whole, whole, whole, of_block],
        out_specs=[whole, statistics],
        out_shape=[
            jax.ShapeDtypeStruct(query.shape, query.dtype),
            jax.ShapeDtypeStruct((rows, width // LANES, plan.heads, length), jnp.float32),
        ],
        name=FORWARD,
        **_options(plan),
    )(seed, instances, query, key, value, biases)


def backward(
    plan: Plan,
    seed: Int[Array, "heads 4"],
    instances: Int[Array, "B 1 T"],
    query: Float[Array, "B T D"],
    key: Float[Array, "B T D"],
    value: Float[Array, "B T D"],
    biases: Float[Array, "3 D"],
    out: Float[Array, "B T D"],
    log_sum: Float[Array, "B blocks heads T"],
    out_gradient: Float[Array, "B T D"],
) -> tuple[
    Float[Array, "B T D"], Float[Array, "B T D"], Float[Array, "B T D"], Float[Array, "B 3 D"]
]:
    """The gradients of query, key and value, and of the biases row by row."""
    rows, length, width = query.shape
    whole, tokens, statistics, of_block, of_row = _blocks(plan, length)
    return pl.pallas_call(
        functools.partial(_backward, plan),
        grid=(rows, width // LANES),
        in_specs=[_SEED, tokens, *[whole] * 3, of_block, whole, statistics, whole],
        out_specs=[*[whole] * 3, of_row],
        out_shape=[
            *[jax.ShapeDtypeStruct(query.shape, query.dtype)] * 3,
            jax.ShapeDtypeStruct((rows, 3, width), jnp.float32),
        ],
        name=BACKWARD,
        **_options(plan),
    )(seed, instances, query, key, value, biases, out, log_sum, out_gradient)


def forward_work(operands: Sequence[Operand], matrix_unit: int) -> KernelWork:
    """With dropout, vector operations as in bfloat16.

    Of each score: mask 2, largest 1, difference 1, the exponential's factor 1, sum 1, dropout
    2.5, conversion 1, sums of partial products 1. Of each lane of a token: biases 9, the
    mask's column 1, value turned 3, result 3, the head's number 1; for each head its key 4.
    """
    (heads, _), _, (rows, length, width), *_ = [operand.sizes for operand in operands]
    itemsize = operands[2].itemsize
    scores, lanes, blocks = length * length, length * LANES, rows * width // LANES
    return KernelWork(
        matmul_flops=matmul_flops(
            2 * _passes(itemsize) * blocks * heads, (length, length, LANES), matrix_unit
        ),
        exponentials=blocks * heads * scores,
        random_words=blocks * heads * scores / 2,
        elementwise=blocks * (heads * 10.5 * scores + (17 + 4 * heads) * lanes),
        bytes=blocks * (4 * itemsize * lanes + heads * 4 * length),
    )


def backward_work(operands: Sequence[Operand], matrix_unit: int) -> KernelWork:
    """With dropout, vector operations as in bfloat16.

    Of each score: mask 2, difference 1, the exponential's factor 1, dropout 3.5, slopes 2,
    conversions 2, sums of partial products 3. Of each lane of a token: biases 9, the mask's
    column 1, key turned 3, products 5, results 10; for each head its key, its value and the
    joining of its results 7.
    """
    (heads, _), _, (rows, length, width), *_ = [operand.sizes for operand in operands]
    itemsize = operands[2].itemsize
    scores, lanes, blocks = length * length, length * LANES, rows * width // LANES
    return KernelWork(
        matmul_flops=matmul_flops(
            5 * _passes(itemsize) * blocks * heads, (length, length, LANES), matrix_unit
        ),
        exponentials=blocks * heads * scores,
        random_words=blocks * heads * scores / 2,
        elementwise=blocks * (heads * 14.5 * scores + (28 + 7 * heads) * lanes),
        bytes=blocks * (8 * itemsize * lanes + heads * 4 * length),
    )


_SEED = pl.BlockSpec(memory_space=pltpu.SMEM)


def _blocks(plan: Plan, length: int) -> tuple[pl.BlockSpec, ...]:
    """A row's block of heads, its instances, the statistics of those heads, their biases, and
    the biases' gradients of a row."""
    return (
        pl.BlockSpec((1, length, LANES), lambda row, block: (row, 0, block)),
        pl.BlockSpec((1, 1, length), lambda row, block: (row, 0, 0)),
        pl.BlockSpec((1, 1, plan.heads, length), lambda row, block: (row, block, 0, 0)),
        pl.BlockSpec((3, LANES), lambda row, block: (0, block)),
        pl.BlockSpec((1, 3, LANES), lambda row, block: (row, 0, block)),
    )


def _options(plan: Plan) -> dict:
    return dict(
        interpret=plan.interpret,
        # Every block of heads of every row on its own: a chip's two cores share them.
        compiler_params=pltpu.CompilerParams(dimension_semantics=(pltpu.PARALLEL, pltpu.PARALLEL)),
    )


def _forward(plan, seed, instances, query, key, value, biases, out, log_sum):
    query, key, value = _with_biases(biases, query, key, value)
    instances = instances[0]
    is_visible = _is_visible(instances)
    value = _transposed(value)
    mixed = []
    for head in range(plan.heads):
        scores = _scores(plan, head, query, key, is_visible)
        largest = jnp.max(scores, axis=0, keepdims=True)
        weights = jnp.exp(scores - largest)
        total = jnp.sum(weights, axis=0, keepdims=True)
        if plan.dropped:
            kept = _kept(plan, head, seed, weights.shape)
            weights = jnp.where(kept, weights, 0)
        lanes = slice(head * plan.head_size, (head + 1) * plan.head_size)
        values = _dot(value[lanes], weights.astype(value.dtype), (1, 0))
        mixed.append(values * jnp.where(instances > 0, kept_scale(plan.dropped) / total, 0))
        log_sum[0, 0, head] = jnp.where(instances > 0, largest + jnp.log(total), NOTHING)[0]
    out[0] = jnp.concatenate(mixed).T.astype(out.dtype)


def _backward(
    plan,
    seed,
    instances,
    query,
    key,
    value,
    biases,
    out,
    log_sum,
    out_gradient,
    query_gradient,
    key_gradient,
    value_gradient,
    biases_gradient,
):
    query, key, value = _with_biases(biases, query, key, value)
    instances, out_gradient = instances[0], out_gradient[0]
    is_visible = _is_visible(instances)
    transposed_key = _transposed(key)
    # Row by head: what each query's gradient of the scores sums to before it is taken off.
    products = (out[0].astype(jnp.float32) * out_gradient.astype(jnp.float32)).T
    scale = kept_scale(plan.dropped) * plan.head_size**-0.5
    query_gradients, key_gradients, value_gradients = [], [], []
    for head in range(plan.heads):
        lanes = slice(head * plan.head_size, (head + 1) * plan.head_size)
        scores = _scores(plan, head, query, key, is_visible)
        weights = jnp.exp(scores - log_sum[0, 0, head][None])
        slopes = _dot(_only(plan, head, value), out_gradient, (1, 1))
        kept_weights = weights
        if plan.dropped:
            kept = _kept(plan, head, seed, weights.shape)
            slopes = jnp.where(kept, slopes, 0)
            kept_weights = jnp.where(kept, weights, 0)
        mean = jnp.sum(products[lanes], axis=0, keepdims=True) * (1 / kept_scale(plan.dropped))
        slopes = (weights * (slopes - mean)).astype(query.dtype)
        query_gradients.append(_dot(transposed_key[lanes], slopes, (1, 0)))
        key_gradients.append(_dot(slopes, query, (1, 0)))
        value_gradients.append(_dot(kept_weights.astype(query.dtype), out_gradient, (1, 0)))
    gradients = (
        (query_gradient, jnp.concatenate(query_gradients).T * scale),
        (key_gradient, _joined(plan, key_gradients) * scale),
        (value_gradient, _joined(plan, value_gradients) * kept_scale(plan.dropped)),
    )
    for number, (place, gradient) in enumerate(gradients):
        place[0] = gradient.astype(place.dtype)
        biases_gradient[0, number] = jnp.sum(gradient, axis=0)


def _with_biases(biases, *products):
    """Each with its bias, added in float32."""
    return [
        (product[0].astype(jnp.float32) + biases[number][None]).astype(product.dtype)
        for number, product in enumerate(products)
    ]


def _is_visible(instances):
    """Keys down, queries across."""
    length = instances.shape[1]
    down = jnp.broadcast_to(instances, (LANES, length)).T
    return jnp.concatenate([down] * (length // LANES), axis=1) == instances


def _scores(plan, head, query, key, is_visible):
    key = _only(plan, head, key) * jnp.asarray(plan.head_size**-0.5, key.dtype)
    return jnp.where(is_visible, _dot(key, query, (1, 1)), MASKED)


def _kept(plan, head, seed, shape):
    row, block = seed[head, 2] + pl.program_id(0), seed[head, 3] + pl.program_id(1)
    words = seed[head, 0], seed[head, 1]
    return is_kept(draw_of(plan.interpret), words, row, block, shape, plan.dropped)


def _only(plan, head, x):
    """The lanes of one head, the others 0."""
    return jnp.where(_head_of_lane(plan, x.shape) == head, x, 0)


def _joined(plan, of_heads):
    """Every head's lanes from its own array."""
    joined = of_heads[0]
    for head, array in enumerate(of_heads[1:], start=1):
        joined = jnp.where(_head_of_lane(plan, joined.shape) == head, array, joined)
    return joined


def _head_of_lane(plan, shape):
    return jax.lax.broadcasted_iota(jnp.int32, shape, 1) // plan.head_size


def _transposed(x):
    # Registers of 32 bits are transposed by the hardware.
    return x.astype(jnp.float32).T.astype(x.dtype)


def _passes(itemsize):
    """Of the matrix unit for a product by _dot."""
    return 6 if itemsize == 4 else 1


def _dot(a, b, contracted):
    """A product summed in float32; of float32 itself to its full precision."""
    precision = jax.lax.Precision.HIGHEST if a.dtype == jnp.float32 else None
    dimensions = (((contracted[0],), (contracted[1],)), ((), ()))
    return jax.lax.dot_general(
        a, b, dimensions, precision=precision, preferred_element_type=jnp.float32
    )
