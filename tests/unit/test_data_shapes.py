"""The shapes that batches of packed texts come in."""

import pytest

from bert_jax.data.shapes import Costs, Shape, Shapes, common_shape, holds, own_shape


def tokens(shape):
    return float(shape.rows * shape.length)


def shapes_of(samples, *, of_compilation, steps, multiple=1):
    costs = Costs(tokens, of_compilation)
    return Shapes(samples, costs, steps=steps, max_length=64, multiple=multiple)


@pytest.mark.parametrize(
    ("lengths", "multiple", "wanted"),
    [
        ([16] * 7, 1, (7, 16)),
        ([16] * 9 + [1], 1, (10, 16)),
        ([16] * 17, 1, (17, 16)),  # no more rows than texts
        ([16] * 17 + [3, 3, 3], 1, (20, 16)),
        ([32] * 33 + [9] * 20, 16, (48, 32)),
        ([40, 40, 40], 1, (3, 50)),
        ([10, 10, 40], 4, (4, 50)),
    ],
)
def test_an_own_shape_is_of_few_numbers(lengths, multiple, wanted):
    assert own_shape(lengths, wanted[1], multiple=multiple) == wanted


def test_batches_have_a_shape_in_common():
    assert common_shape([[9] * 8, [30] * 2], max_length=64, multiple=1) == (3, 32)
    assert common_shape([[30], [9] * 8], max_length=64, multiple=4) == (4, 32)
    assert common_shape([[30], [30] * 2], max_length=64, multiple=1) == (2, 32)
    assert common_shape([[10, 50], [40]], max_length=50, multiple=1) == (2, 50)


def test_two_short_rows_are_one_long_one():
    texts = [16] * 4
    assert holds(Shape(4, 16), texts)
    assert holds(Shape(2, 32), texts)
    assert not holds(Shape(1, 32), texts)
    assert not holds(Shape(8, 16), [17])


SHORT, LONG, RARE = [16] * 4, [32] * 4, [32] * 5


def test_a_shape_stays_where_its_steps_cost_more_in_another_than_its_compilation():
    # A hundred steps of SHORT, half of all: 64 tokens more each in the shape of LONG.
    samples = [SHORT, LONG]
    dear = shapes_of(samples, of_compilation=6401, steps=200)
    assert [dear.of(SHORT), dear.of(LONG)] == [(4, 32), (4, 32)]
    cheap = shapes_of(samples, of_compilation=6399, steps=200)
    assert [cheap.of(SHORT), cheap.of(LONG)] == [(4, 16), (4, 32)]


def test_given_up_is_what_is_cheapest_to_do_without():
    # 49 batches have 32 tokens more without LONG's, 50 would have 64 more without SHORT's.
    shapes = shapes_of([SHORT] * 50 + [LONG] * 49 + [RARE], of_compilation=2000, steps=100)
    assert [shapes.of(SHORT), shapes.of(LONG), shapes.of(RARE)] == [(4, 16), (5, 32), (5, 32)]


def test_what_no_shape_holds_has_its_own():
    shapes = shapes_of([SHORT], of_compilation=1e9, steps=100, multiple=4)
    assert shapes.of([64, 64]) == (4, 64)
    assert shapes.of([3]) == (4, 16)


def test_few_samples_stand_for_all_steps():
    few = shapes_of([SHORT, LONG], of_compilation=6400, steps=100)
    many = shapes_of([SHORT, LONG], of_compilation=6400, steps=1000)
    assert [few.of(SHORT), many.of(SHORT)] == [(4, 32), (4, 16)]
