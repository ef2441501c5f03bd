"""What the kernels are counted to do, against counts by hand."""

import pytest

from bert_jax.model.kernel_work import KERNELS, Operand
from bert_jax.model.kernels import add_norm, attention, dropout, splash

ROWS, LENGTH, WIDTH, HEADS = 3, 512, 256, 2  # heads of 64, two in a block


def operands(*, itemsize, length=LENGTH):
    """Of a call of each kernel, the last of the backward passes' left out."""
    tokens = Operand((ROWS, length, WIDTH), itemsize)
    of_attention = [Operand((HEADS, 4), 4), Operand((ROWS, 1, length), 4), *[tokens] * 3]
    return {
        attention.FORWARD: of_attention,
        attention.BACKWARD: of_attention,
        add_norm.FORWARD: [Operand((3,), 4), tokens, tokens],
        add_norm.BACKWARD: [Operand((3,), 4), tokens, tokens],
        dropout.NAME: [Operand((3,), 4), tokens],
    }


@pytest.mark.parametrize(
    ("name", "products", "arrays"),
    [
        (attention.FORWARD, 2, 4),
        (attention.BACKWARD, 5, 8),
        (add_norm.FORWARD, 0, 4),
        (add_norm.BACKWARD, 0, 4),
        (dropout.NAME, 0, 2),
    ],
)
@pytest.mark.parametrize(("itemsize", "passes"), [(2, 1), (4, 6)])
def test_products_and_bytes_go_by_the_type(name, products, arrays, itemsize, passes):
    work = KERNELS[name](operands(itemsize=itemsize)[name], 128)
    blocks = ROWS * WIDTH // 128
    # A head of 64 fills half of a unit and is counted as all of it.
    assert work.matmul_flops == blocks * HEADS * products * passes * 2 * LENGTH * LENGTH * 128
    log_sums = blocks * HEADS * LENGTH * 4 if products else 0
    assert work.bytes == arrays * ROWS * LENGTH * WIDTH * itemsize + log_sums


@pytest.mark.parametrize("name", [attention.FORWARD, attention.BACKWARD])
@pytest.mark.parametrize(("length", "times"), [(512, 2), (384, 2 * 16 / 9), (128, 2 * 4)])
def test_a_wider_matrix_unit_is_filled_up_too(name, length, times):
    given = operands(itemsize=2, length=length)[name]
    narrow, wide = (KERNELS[name](given, unit) for unit in (128, 256))
    assert wide.matmul_flops == pytest.approx(times * narrow.matmul_flops)
    assert wide._replace(matmul_flops=0) == narrow._replace(matmul_flops=0)


@pytest.mark.parametrize(
    ("name", "products", "exponentials", "once"),
    [
        ("splash_mha_fwd_segmented_residuals", 3, 2, 2),
        ("splash_mha_dq_segmented_no_residuals", 3, 1, 3),
        ("splash_mha_dkv_segmented_no_residuals", 4, 1, 4),
    ],
)
@pytest.mark.parametrize(("itemsize", "times"), [(2, 1), (4, 2)])
@pytest.mark.parametrize(("head_size", "lanes"), [(64, 128), (128, 128), (160, 256)])
def test_splash_attention_goes_block_by_block(
    name, products, exponentials, once, itemsize, times, head_size, lanes
):
    heads = 4
    tokens = Operand((ROWS, heads, LENGTH, head_size), itemsize)
    work = splash.WORK[name]([Operand((1, 1, 1), 1)] * 2 + [tokens] * 3, 128)
    scores = ROWS * heads * LENGTH * LENGTH
    assert work.matmul_flops == products * times * 2 * scores * lanes
    assert (work.exponentials, work.random_words) == (exponentials * scores, 0)
    # Two arrays are read for each of four blocks of the other tokens.
    arrays = (once + 2 * 4) * lanes * itemsize
    assert work.bytes == ROWS * heads * LENGTH * (arrays + 2 * 128 * 4)
