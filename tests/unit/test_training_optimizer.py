"""Adam, AdamW and LAMB against published numbers and by what moves."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small import optimizer_config

from bert_jax.config import MeshConfig
from bert_jax.training.optimizer import AdamState, Moves, make_optimizer
from bert_jax.training.sharding import make_mesh, tree_shardings


def config_of(**changes):
    """A constant rate of 0.2 and nothing but Adam."""
    bare = dict(
        learning_rate=0.2, schedule="constant", warmup_fraction=0.0, epsilon=1e-6, clip_norm=0.0
    )
    return optimizer_config(**(bare | changes))


def params_of(seed=0):
    """One leaf of every kind, by the names of the model."""
    rng = np.random.default_rng(seed)

    def leaf(*shape):
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    def norm():
        return {"scale": leaf(4), "bias": leaf(4)}

    return {
        "encoder": {
            "embeddings": {"token": leaf(6, 4), "position": leaf(5, 4), "norm": norm()},
            "layer_0": {
                "attention": {"query": {"kernel": leaf(4, 2, 2), "bias": leaf(2, 2)}},
                "attention_norm": norm(),
            },
            "layer_1": {"attention_norm": norm()},
        },
        "mlm": {"bias": leaf(6)},
    }


DECAYED = {
    "encoder/embeddings/token",
    "encoder/embeddings/position",
    "encoder/layer_0/attention/query/kernel",
}


def by_path(tree):
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def descend(optimizer, rate, grads, state, params):
    """What is added to the parameters, and the state after it."""
    updates, state = optimizer.update(grads, state, params)
    return jax.tree.map(lambda update: -rate * update, updates), state


def one_update(config, params, grads, **options):
    optimizer = make_optimizer(config, **options)
    updates, state = descend(optimizer, config.learning_rate, grads, optimizer.init(params), params)
    return by_path(updates), state


def adam_states(state):
    """Every Adam state in an optimizer state: of optax's kind or of this package's."""
    kinds = (AdamState, optax.ScaleByAdamState)
    leaves = jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, kinds))
    return [node for node in leaves if isinstance(node, kinds)]


def trajectory_of(config, steps):
    """The parameters after each of the steps, on the problem of the published tests.

    It is that of google-research/bert optimization_test.py and Hugging Face
    test_optimization.py. In float64: 1 - 0.999 alone is off by 1e-5 of itself in float32.
    """
    target = np.array([0.4, 0.2, -0.5])
    params = {"w": jnp.asarray([0.1, -0.2, -0.1])}
    assert params["w"].dtype == jnp.float64
    optimizer = make_optimizer(config)
    gradient = jax.grad(lambda params: jnp.mean((target - params["w"]) ** 2))

    @jax.jit
    def step(params, state):
        updates, state = descend(optimizer, config.learning_rate, gradient(params), state, params)
        return optax.apply_updates(params, updates), state

    state = optimizer.init(params)
    passed = [params["w"]]
    for _ in range(steps):
        params, state = step(params, state)
        passed.append(params["w"])
    return passed


@pytest.mark.parametrize(
    ("bias_correction", "trajectory"),
    [
        (
            False,
            {
                1: [0.732356, 0.432381, -0.732381],
                2: [0.644262, 0.606905, -0.906905],
                100: [0.401646, 0.197824, -0.497824],
            },
        ),
        (
            True,
            {
                1: [0.299999, -0.000001, -0.299999],
                2: [0.474211, 0.186434, -0.486434],
                100: [0.401177, 0.201738, -0.501738],
            },
        ),
    ],
)
@jax.enable_x64(True)
def test_adam_trajectory(bias_correction, trajectory):
    # With the original's epsilon of 1e-6; six decimals of what AdamWeightDecayOptimizer
    # and torch.optim.AdamW make of it.
    passed = trajectory_of(config_of(bias_correction=bias_correction), 100)
    for number, expected in trajectory.items():
        np.testing.assert_allclose(passed[number], expected, rtol=0, atol=6e-7)


@pytest.mark.parametrize(
    # (1 - b1) / sqrt(1 - b2) = 0.1 / sqrt(0.001) without the correction, 1 with it.
    ("bias_correction", "size"),
    [(False, 3.1623), (True, 1.0)],
)
def test_the_first_update_has_one_size_whatever_the_gradient(bias_correction, size):
    grads = {"kernel": jnp.asarray([3.0, -40.0, 500.0])}
    config = config_of(learning_rate=1.0, epsilon=1e-12, bias_correction=bias_correction)
    updates, _ = one_update(config, jax.tree.map(jnp.ones_like, grads), grads)
    np.testing.assert_allclose(updates["kernel"], [-size, size, -size], rtol=0, atol=5e-5)


@pytest.mark.parametrize("bias_correction", [False, True])
def test_decay_shrinks_kernels_and_embeddings_and_nothing_else(bias_correction):
    params = params_of()
    grads = jax.tree.map(jnp.zeros_like, params)
    config = config_of(weight_decay=0.01, bias_correction=bias_correction)
    updates, _ = one_update(config, params, grads)
    assert updates.keys() > DECAYED
    for path, value in by_path(params).items():
        # Without a gradient the decay alone is left: minus rate * decay * parameter.
        expected = -0.2 * 0.01 * value if path in DECAYED else 0 * value
        np.testing.assert_allclose(updates[path], expected, rtol=1e-6, err_msg=path)


def test_decay_is_decoupled_from_the_gradient():
    params, grads = params_of(0), params_of(1)
    plain, _ = one_update(config_of(), params, grads)
    decayed, _ = one_update(config_of(weight_decay=0.01), params, grads)
    for path, value in by_path(params).items():
        extra = -0.2 * 0.01 * value if path in DECAYED else 0 * value
        np.testing.assert_allclose(decayed[path], plain[path] + extra, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("scale", "norm"), [(10.0, 1.0), (0.1, 0.5)])
def test_gradients_are_clipped_by_their_global_norm(scale, norm):
    grads = {"kernel": jnp.asarray([3.0, 0.0]) * scale, "bias": jnp.asarray([4.0]) * scale}
    params = jax.tree.map(jnp.zeros_like, grads)
    _, state = one_update(config_of(clip_norm=1.0, bias_correction=False), params, grads)
    (adam,) = adam_states(state)
    # The mean holds a tenth of the clipped gradient, in the direction of the whole.
    np.testing.assert_allclose(adam.mean["kernel"], [0.06 * norm, 0.0], rtol=1e-5)
    np.testing.assert_allclose(adam.mean["bias"], [0.08 * norm], rtol=1e-5)


def test_a_clip_norm_of_0_clips_nothing():
    grads = {"kernel": jnp.asarray([300.0])}
    params = jax.tree.map(jnp.zeros_like, grads)
    _, state = one_update(config_of(clip_norm=0.0, bias_correction=False), params, grads)
    np.testing.assert_allclose(adam_states(state)[0].mean["kernel"], [30.0], rtol=1e-6)


@pytest.mark.parametrize("bias_correction", [False, True])
def test_frozen_parameters_stay_and_have_no_adam_state(bias_correction):
    params, grads = params_of(0), params_of(1)
    frozen = r"^encoder/(embeddings|layer_0)/"
    config = config_of(weight_decay=0.01, bias_correction=bias_correction)
    updates, state = one_update(config, params, grads, moves=Moves(frozen=frozen))
    trained = {path for path in updates if path.startswith(("encoder/layer_1", "mlm"))}
    assert len(trained) == 3
    for path, update in updates.items():
        assert (update != 0).all() == (path in trained), path
    (adam,) = adam_states(state)
    moments = adam[-2:]  # after optax's count, if any
    for moment in moments:
        assert set(by_path(moment)) == trained


def test_frozen_gradients_do_not_count_towards_the_clipped_norm():
    grads = {"trained": jnp.asarray([0.5]), "frozen": jnp.asarray([1e6])}
    params = jax.tree.map(jnp.zeros_like, grads)
    config = config_of(clip_norm=1.0, bias_correction=False)
    _, state = one_update(config, params, grads, moves=Moves(frozen="frozen"))
    np.testing.assert_allclose(adam_states(state)[0].mean["trained"], [0.05], rtol=1e-6)


def lamb_of(**changes):
    """LAMB without bias correction, at a rate of 0.1 and with decay, as in ALBERT's test."""
    original = dict(name="lamb", learning_rate=0.1, weight_decay=0.01, bias_correction=False)
    return config_of(**(original | changes))


@jax.enable_x64(True)
def test_lamb_trajectory():
    # google-research/albert, lamb_optimizer.py, on the same problem: nine decimals of it.
    passed = trajectory_of(lamb_of(not_decayed=""), 2)
    for number, expected in {
        1: [0.114137289, -0.185848734, -0.114137848],
        2: [0.128341435, -0.171627753, -0.128348799],
    }.items():
        np.testing.assert_allclose(passed[number], expected, rtol=0, atol=6e-10)


@pytest.mark.parametrize("bias_correction", [False, True])
def test_lamb_moves_each_tensor_by_the_rate_times_its_own_norm(bias_correction):
    params, grads = params_of(0), params_of(1)
    moved, _ = one_update(lamb_of(bias_correction=bias_correction), params, grads)
    straight, _ = one_update(lamb_of(name="adam", bias_correction=bias_correction), params, grads)
    for path, value in by_path(params).items():
        if path in DECAYED:
            assert np.linalg.norm(moved[path]) == pytest.approx(0.1 * np.linalg.norm(value), 1e-5)
            # In the direction of AdamW.
            ratio = np.linalg.norm(moved[path]) / np.linalg.norm(straight[path])
            np.testing.assert_allclose(moved[path], ratio * straight[path], rtol=1e-5)
        else:
            np.testing.assert_allclose(moved[path], straight[path], rtol=1e-6, err_msg=path)


def test_where_a_norm_is_0_lamb_is_adam():
    params = {"empty": jnp.zeros((2, 2)), "idle": jnp.ones((2, 2))}
    grads = {"empty": jnp.ones((2, 2)), "idle": jnp.zeros((2, 2))}
    config = lamb_of(weight_decay=0.0, learning_rate=1.0, epsilon=1e-12)
    updates, _ = one_update(config, params, grads)
    # The first update of uncorrected Adam.
    np.testing.assert_allclose(updates["empty"], np.full((2, 2), -3.1623), rtol=0, atol=5e-5)
    np.testing.assert_array_equal(updates["idle"], np.zeros((2, 2)))


@pytest.mark.parametrize(
    ("not_decayed", "wanted"),
    [
        (r"(bias|scale)$", DECAYED),
        (r"^encoder/layer_0/|norm|bias", DECAYED - {"encoder/layer_0/attention/query/kernel"}),
        ("", set(by_path(params_of()))),
    ],
)
@pytest.mark.parametrize("name", ["adam", "lamb"])
def test_the_regex_says_what_is_decayed_and_has_a_trust_ratio(name, not_decayed, wanted):
    params, grads = params_of(0), params_of(1)
    updates, _ = one_update(lamb_of(name=name, not_decayed=not_decayed), params, grads)
    bare, _ = one_update(config_of(learning_rate=0.1, bias_correction=False), params, grads)
    changed = {path for path in updates if not np.allclose(updates[path], bare[path], rtol=1e-6)}
    assert changed == wanted


def test_lamb_leaves_frozen_parameters_to_the_bit():
    frozen = r"^encoder/(embeddings|layer_0)/"
    params, grads = params_of(0), params_of(1)
    updates, state = one_update(lamb_of(), params, grads, moves=Moves(frozen=frozen))
    after = by_path(optax.apply_updates(params, nested_like(params, updates)))
    trained = {path for path in updates if path.startswith(("encoder/layer_1", "mlm"))}
    for path, value in by_path(params).items():
        assert (after[path].tobytes() == value.tobytes()) == (path not in trained), path
    (adam,) = adam_states(state)
    assert set(by_path(adam.mean)) == set(by_path(adam.square)) == trained


def nested_like(tree, leaves):
    return jax.tree.unflatten(jax.tree.structure(tree), list(leaves.values()))


def test_lamb_on_eight_devices_is_lamb_on_one():
    # Norms are those of whole tensors, wherever their parts lie. Big, for the mesh to divide.
    rng = np.random.default_rng(0)
    shapes = {
        "encoder/embeddings/token": (64, 16),
        "encoder/layer_0/attention/query/kernel": (16, 4, 8),
        "encoder/layer_0/feed_forward/output/kernel": (32, 16),
        "encoder/layer_0/attention_norm/scale": (16,),
    }
    params, grads = (
        {path: jnp.asarray(rng.normal(size=shape), jnp.float32) for path, shape in shapes.items()}
        for _ in range(2)
    )
    optimizer = make_optimizer(lamb_of())

    @jax.jit
    def two_updates(params, grads):
        state = optimizer.init(params)
        for _ in range(2):
            updates, state = descend(optimizer, 0.1, grads, state, params)
            params = optax.apply_updates(params, updates)
        return params

    mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    place = functools.partial(jax.device_put, device=tree_shardings(params, mesh))
    spread = place(params)
    parts = spread["encoder/layer_0/attention/query/kernel"].addressable_shards
    assert {part.data.shape for part in parts} == {(8, 2, 8)}
    ours, alone = two_updates(spread, place(grads)), two_updates(params, grads)
    for path in shapes:
        np.testing.assert_allclose(ours[path], alone[path], rtol=1e-6, atol=1e-7, err_msg=path)


RATES = (("^encoder/embeddings/", 0.25), ("^encoder/layer_0/", 0.5))


def test_an_update_is_multiplied_by_the_rate_of_its_path():
    # Decay too is a part of the rate; Adam alone would undo a factor of the gradient.
    params, grads = params_of(), params_of(seed=1)
    config = config_of(weight_decay=0.1)
    whole, _ = one_update(config, params, grads)
    part, _ = one_update(config, params, grads, moves=Moves(rates=RATES))
    for path, update in whole.items():
        factor = next((rate for regex, rate in RATES if path.startswith(regex[1:])), 1)
        np.testing.assert_allclose(part[path], factor * update, rtol=1e-6, err_msg=path)


def test_what_is_held_stays_for_so_many_updates_and_then_moves_with_a_grown_state():
    params, grads = params_of(), params_of(seed=1)
    config = config_of(weight_decay=0.1)
    held = make_optimizer(config, Moves(held="^encoder/", held_updates=2))
    free = make_optimizer(config)
    states = held.init(params), free.init(params)
    for number in range(3):
        found, kept = held.update(grads, states[0], params)
        wanted, moved = free.update(grads, states[1], params)
        states = kept, moved
        for path, update in by_path(wanted).items():
            is_held = path.startswith("encoder/") and number < 2
            np.testing.assert_array_equal(by_path(found)[path], 0 * update if is_held else update)
