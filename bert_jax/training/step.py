"""One update: gradients over the microbatches, one normalisation, one optimizer step."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float, PyTree

from bert_jax.training.hardware import compiler_options
from bert_jax.training.metrics import SKIPPED, Mean
from bert_jax.training.schedules import Schedule
from bert_jax.training.sharding import batch_sharding, tree_shardings
from bert_jax.training.state import TrainState


class Objective(NamedTuple):
    """What a task minimises: the sum over `losses` of total / weight.

    `weights` counts, from the batch alone, what each loss will be divided by. It is
    taken over the whole global batch before any microbatch runs, so accumulation and
    sharding change nothing but rounding.
    """

    weights: Callable[[PyTree], dict[str, Float[Array, ""]]]  # batch -> {loss: weight}
    # (params, batch, key or None to switch dropout off) -> (losses, other metrics)
    losses: Callable[[PyTree, PyTree, Any], tuple[dict[str, Mean], dict[str, Mean]]]


def by_step(schedule: Schedule) -> Callable[[TrainState], Float[Array, ""]]:
    """The learning rate of a state whose schedule goes by the batches read."""
    return lambda state: schedule(state.step)


def make_train_step(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    rate_of: Callable[[TrainState], Float[Array, ""]],
    *,
    mesh: Mesh,
    microbatches: int = 1,
) -> Callable[[TrainState, PyTree], tuple[TrainState, dict[str, Mean]]]:
    """The jitted `(state, batch) -> (state, metrics)`; the state given is donated.

    The update is `-rate_of(state)` times what the optimizer makes of the gradient. Where the
    loss or the gradient is not finite the update is skipped: parameters and optimizer stay as
    they were, the metrics of the batch count for nothing, and `skipped` counts one.
    """

    def scaled_loss(params, batch, key, weights):
        losses, extra = objective.losses(params, batch, key)
        loss = sum(mean.total / jnp.maximum(weights[name], 1) for name, mean in losses.items())
        return loss, losses | extra

    gradient = jax.value_and_grad(scaled_loss, has_aux=True)

    def train_step(state: TrainState, batch: PyTree) -> tuple[TrainState, dict[str, Mean]]:
        key = jax.random.fold_in(state.key, state.step)
        weights = objective.weights(batch)
        if microbatches == 1:
            (loss, means), grads = gradient(state.params, batch, key, weights)
        else:
            parts = _split(batch, microbatches, mesh)
            (loss, means), grads = _accumulate(gradient, state.params, parts, key, weights)
        with jax.named_scope("optimizer"):  # a trace tells its time from the gradient's
            norm = optax.tree.norm(grads)
            is_finite = jnp.isfinite(loss) & jnp.isfinite(norm)
            rate = rate_of(state)
            updates, optimizer_state = optimizer.update(grads, state.optimizer, state.params)
            params = jax.tree.map(lambda p, u: p - rate * u, state.params, updates)
            params, optimizer_state = jax.tree.map(
                lambda new, old: jnp.where(is_finite, new, old),
                (params, optimizer_state),
                (state.params, state.optimizer),
            )
        # Pinned, so that the next step finds its inputs where this compilation had them.
        params, optimizer_state = jax.lax.with_sharding_constraint(
            (params, optimizer_state), tree_shardings((params, optimizer_state), mesh)
        )
        state = state._replace(step=state.step + 1, params=params, optimizer=optimizer_state)
        one = jnp.ones(())
        means.setdefault("loss", Mean(loss, one))
        means["gradient_norm"] = Mean(norm, one)
        means = jax.tree.map(lambda value: jnp.where(is_finite, value, 0), means)
        means["learning_rate"] = Mean(rate, one)
        means[SKIPPED] = Mean(1 - is_finite.astype(jnp.float32), one)
        return state, means

    return jax.jit(train_step, donate_argnums=0, compiler_options=compiler_options(mesh))


def make_eval_step(objective: Objective) -> Callable[[PyTree, PyTree], dict[str, Mean]]:
    """The jitted `(params, batch) -> metrics`, dropout off."""

    def eval_step(params: PyTree, batch: PyTree) -> dict[str, Mean]:
        losses, extra = objective.losses(params, batch, None)
        return losses | extra

    return jax.jit(eval_step)


def _split(batch: PyTree, microbatches: int, mesh: Mesh) -> PyTree:
    """[B ...] to [microbatches, B / microbatches, ...] without moving rows between devices."""
    sharding = jax.sharding.NamedSharding(
        mesh, jax.sharding.PartitionSpec(None, *batch_sharding(mesh).spec)
    )

    def split(rows: Array) -> Array:
        parts = rows.reshape(rows.shape[0] // microbatches, microbatches, *rows.shape[1:])
        return jax.lax.with_sharding_constraint(parts.swapaxes(0, 1), sharding)

    return jax.tree.map(split, batch)


def _accumulate(gradient, params, parts, key, weights):
    def one(total, indexed_part):
        index, part = indexed_part
        result = gradient(params, part, jax.random.fold_in(key, index), weights)
        return jax.tree.map(jnp.add, total, result), None

    count = jax.tree.leaves(parts)[0].shape[0]
    first = jax.tree.map(lambda rows: rows[0], parts)
    shapes = jax.eval_shape(gradient, params, first, key, weights)
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    total, _ = jax.lax.scan(one, zeros, (jnp.arange(count), parts))
    return total
