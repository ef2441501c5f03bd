"""One step, however it is computed: in parts, on one device or on eight."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec
from small import model_config, optimizer_config

from bert_jax.arrays import PretrainBatch, Tokens
from bert_jax.config import MeshConfig
from bert_jax.errors import InputError
from bert_jax.model.bert import PretrainModel
from bert_jax.tasks.pretrain import init_params, make_objective
from bert_jax.training.metrics import Mean, divide
from bert_jax.training.optimizer import make_optimizer
from bert_jax.training.schedules import make_schedule
from bert_jax.training.sharding import batch_placer, check_batch, make_mesh, tree_shardings
from bert_jax.training.state import init_state
from bert_jax.training.step import Objective, by_step, make_eval_step, make_train_step

MODEL = model_config(
    vocab_size=40,
    positions=12,
    width=16,
    layers=1,
    feed_forward=32,
    init_stddev=0.2,
    dropout=0.0,
    attention_dropout=0.0,
)
WITH_DROPOUT = dataclasses.replace(MODEL, dropout=0.1, attention_dropout=0.1)
ROWS = 16
MESHES = {"1": (1, 1, 1), "8": (8, 1, 1), "4x2": (4, 2, 1), "2x2x2": (2, 2, 2)}


def make_batch():
    """Full rows whose numbers of masked tokens run from 0 to 5, so that no two parts agree."""
    rng = np.random.default_rng(0)
    length, slots = MODEL.positions, 5
    masked = np.arange(ROWS) * 7 % 6
    positions = np.sort(rng.permuted(np.tile(np.arange(1, length), (ROWS, 1)), axis=1)[:, :slots])
    ones = np.ones((ROWS, length), np.int32)
    return PretrainBatch(
        tokens=Tokens(
            ids=rng.integers(MODEL.vocab_size, size=(ROWS, length), dtype=np.int32),
            segments=ones * (np.arange(length) > 6),
            positions=ones * np.arange(length, dtype=np.int32),
            instances=ones * (np.arange(length) < rng.integers(8, 13, (ROWS, 1))),
        ),
        mask_positions=positions.astype(np.int32),
        mask_labels=rng.integers(MODEL.vocab_size, size=(ROWS, slots), dtype=np.int32),
        mask_weights=(np.arange(slots) < masked[:, None]).astype(np.float32),
        cls_positions=np.zeros((ROWS, 1), np.int32),
        next_labels=rng.integers(2, size=(ROWS, 1), dtype=np.int32),
        next_weights=(np.arange(ROWS)[:, None] % 5 > 0).astype(np.float32),
    )


def mesh_of(name):
    sizes = MESHES[name]
    return make_mesh(MeshConfig(*sizes), jax.devices()[: int(np.prod(sizes))])


def fresh_state(model, optimizer, mesh):
    init = functools.partial(init_params, model)
    return init_state(init, optimizer, seed=0, prng="threefry2x32", mesh=mesh)


@functools.cache
def take_step(mesh_name="1", microbatches=1, model=MODEL):
    """(metrics, gradients by path): a step of plain SGD at rate 1 moves by the gradient."""
    mesh = mesh_of(mesh_name)
    optimizer = optax.identity()
    state = fresh_state(model, optimizer, mesh)
    before = jax.device_get(state.params)
    step = make_train_step(
        make_objective(PretrainModel(model, mesh)),
        optimizer,
        optax.constant_schedule(1.0),
        mesh=mesh,
        microbatches=microbatches,
    )
    state, metrics = step(state, batch_placer(mesh)(make_batch()))
    assert int(state.step) == 1
    gradients = jax.tree.map(np.subtract, before, jax.device_get(state.params))
    return jax.device_get(metrics), gradients


def assert_same_step(ours, theirs):
    metrics, gradients = ours
    other_metrics, other_gradients = theirs
    assert metrics.keys() == other_metrics.keys()
    for name in ("mlm_loss", "next_loss", "gradient_norm"):
        np.testing.assert_allclose(metrics[name], other_metrics[name], rtol=1e-5, err_msg=name)
    for name in ("mlm_accuracy", "next_accuracy"):
        np.testing.assert_array_equal(metrics[name], other_metrics[name], err_msg=name)
    # Parameters of size 1 are rounded to 6e-8 before their difference is taken.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        gradients,
        other_gradients,
    )


def test_the_gradient_is_that_of_the_mean_loss():
    metrics, gradients = take_step()
    batch = jax.tree.map(jnp.asarray, make_batch())
    mesh = mesh_of("1")
    params = fresh_state(MODEL, optax.identity(), mesh).params

    def mean_loss(params):
        mlm, following = PretrainModel(MODEL, mesh).apply(
            {"params": params},
            batch.tokens,
            batch.mask_positions,
            batch.cls_positions,
            deterministic=True,
        )

        def mean(logits, labels, weights):
            chances = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[..., None], -1)[..., 0]
            return -(chances * weights).sum() / weights.sum()

        return mean(mlm, batch.mask_labels, batch.mask_weights) + mean(
            following, batch.next_labels, batch.next_weights
        )

    loss, expected = jax.jit(jax.value_and_grad(mean_loss))(params)
    means = divide(metrics)
    assert means["mlm_loss"] + means["next_loss"] == pytest.approx(float(loss), rel=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), gradients, expected
    )
    squares = sum(float((g**2).sum()) for g in jax.tree.leaves(expected))
    assert means["gradient_norm"] == pytest.approx(np.sqrt(squares), rel=1e-4)
    assert means["learning_rate"] == 1.0
    assert metrics["mlm_loss"].weight == make_batch().mask_weights.sum()


@pytest.mark.parametrize("microbatches", [2, 4])
def test_microbatches_of_unequal_weight_are_the_whole_batch(microbatches):
    parts = [make_batch().mask_weights[i::microbatches].sum() for i in range(microbatches)]
    assert len(set(parts)) > 1
    assert_same_step(take_step(microbatches=microbatches), take_step())


@pytest.mark.parametrize("mesh", ["8", "4x2", "2x2x2"])
def test_one_device_and_eight_take_the_same_step(mesh):
    # Dropout is by place, on any mesh the same.
    assert_same_step(take_step(mesh, model=WITH_DROPOUT), take_step("1", model=WITH_DROPOUT))


def test_microbatches_on_eight_devices_are_the_whole_batch_on_one():
    assert_same_step(take_step("4x2", microbatches=2), take_step())


def test_parameters_and_moments_are_spread_as_the_table_says():
    mesh = mesh_of("2x2x2")
    state = fresh_state(MODEL, optax.adam(1.0), mesh)
    layer = state.params["encoder"]["layer_0"]
    query = layer["attention"]["query"]["kernel"]
    assert query.sharding.spec == PartitionSpec("fsdp", "tensor")
    assert query.addressable_shards[0].data.size == query.size // 4
    moment = state.optimizer[0].mu["encoder"]["layer_0"]["feed_forward"]["intermediate"]["kernel"]
    assert moment.sharding.spec == PartitionSpec("fsdp", "tensor")
    assert layer["attention_norm"]["scale"].sharding.is_fully_replicated
    assert state.step.sharding.is_fully_replicated


def test_an_axis_that_does_not_divide_is_left_out():
    table = {"embeddings": {"token": jax.ShapeDtypeStruct((41, 16), jnp.float32)}}
    placed = tree_shardings(table, mesh_of("2x2x2"))
    assert placed["embeddings"]["token"].spec == PartitionSpec(None, "fsdp")


def test_dropout_differs_from_step_to_step_and_is_off_in_evaluation():
    mesh = mesh_of("1")
    optimizer = optax.identity()
    state = fresh_state(WITH_DROPOUT, optimizer, mesh)
    objective = make_objective(PretrainModel(WITH_DROPOUT, mesh))
    # At a rate of 0 nothing moves, so only the dropout can differ.
    step = make_train_step(objective, optimizer, optax.constant_schedule(0.0), mesh=mesh)
    eval_step = make_eval_step(objective)
    batch = batch_placer(mesh)(make_batch())
    fixed = float(eval_step(state.params, batch)["mlm_loss"].total)
    losses = []
    for _ in range(3):
        state, metrics = step(state, batch)
        losses.append(float(metrics["mlm_loss"].total))
    assert len({*losses, fixed}) == 4
    assert float(eval_step(state.params, batch)["mlm_loss"].total) == fixed
    # On the same parameters, those without dropout lose the same as in evaluation.
    bare = make_eval_step(make_objective(PretrainModel(MODEL, mesh)))
    assert float(bare(state.params, batch)["mlm_loss"].total) == pytest.approx(fixed, rel=1e-6)


@pytest.mark.parametrize(
    ("axes", "shape"),
    [
        ((-1, 1, 1), (8, 1, 1)),
        ((2, -1, 1), (2, 4, 1)),
        ((2, 2, -1), (2, 2, 2)),
        ((4, 2, 1), (4, 2, 1)),
    ],
)
def test_mesh_shapes(axes, shape):
    mesh = make_mesh(MeshConfig(*axes))
    assert tuple(mesh.shape[name] for name in ("data", "fsdp", "tensor")) == shape


@pytest.mark.parametrize(
    "axes", [(4, 1, 1), (16, 1, 1), (3, -1, 1), (-1, -1, 1), (0, 1, 1), (-1, 0, 1), (-2, -4, 1)]
)
def test_a_mesh_that_does_not_use_the_devices_is_refused(axes):
    with pytest.raises(InputError, match=r"config\.mesh .* does not use the 8 devices"):
        make_mesh(MeshConfig(*axes))


def test_a_batch_must_divide_over_devices_and_microbatches():
    mesh = mesh_of("2x2x2")  # rows are split four ways
    check_batch(mesh, 16, 4)
    check_batch(mesh, 4)
    with pytest.raises(InputError, match=r"config\.batch_size=6 is not a multiple of 4"):
        check_batch(mesh, 6)
    with pytest.raises(InputError, match=r"config\.batch_size=8 is not a multiple of 12"):
        check_batch(mesh, 8, 3)


def test_a_parameter_moves_by_the_rate_of_its_step():
    config = optimizer_config(
        schedule="linear", warmup_fraction=0.2, learning_rate=1.0, epsilon=1e-12, clip_norm=0.0
    )
    # A loss that is its one parameter has a constant gradient, and corrected Adam then
    # moves by the rate itself.
    one = jnp.ones(())
    objective = Objective(
        lambda batch: {"loss": one},
        lambda params, batch, key: ({"loss": Mean(params["kernel"].sum(), one)}, {}),
    )
    mesh, optimizer = mesh_of("1"), make_optimizer(config)
    init = functools.partial(init_state, seed=0, prng="threefry2x32", mesh=mesh)
    state = init(lambda key: {"kernel": jnp.zeros(1)}, optimizer)
    rate_of = by_step(make_schedule(config, total_steps=10))
    step = make_train_step(objective, optimizer, rate_of, mesh=mesh)
    moved, rates = [], []
    for _ in range(11):
        before = float(state.params["kernel"][0])
        state, metrics = step(state, jnp.zeros((8, 1)))
        moved.append(before - float(state.params["kernel"][0]))
        rates.append(float(metrics["learning_rate"].total))
    expected = [0, 0.5, 1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125, 0]
    np.testing.assert_allclose(moved, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(rates, expected, rtol=1e-6)
