"""One update: gradients over the microbatches, one normalisation, one optimizer step."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float, PyTree

from bert_jax.training.metrics import Mean
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


def make_train_step(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    schedule: Schedule,
    *,
    mesh: Mesh,
    microbatches: int = 1,
) -> Callable[[TrainState, PyTree], tuple[TrainState, dict[str, Mean]]]:
    """The jitted `(state, batch) -> (state, metrics)`; the state given is donated."""

    def scaled_loss(params, batch, key, weights):
        losses, extra = objective.losses(params, batch, key)
        loss = sum(mean.total / jnp.maximum(weights[name], 1) for name, mean in losses.items())
        return loss, losses | extra

    gradient = jax.grad(scaled_loss, has_aux=True)

    def train_step(state: TrainState, batch: PyTree) -> tuple[TrainState, dict[str, Mean]]:
        key = jax.random.fold_in(state.key, state.step)
        weights = objective.weights(batch)
        if microbatches == 1:
            grads, means = gradient(state.params, batch, key, weights)
        else:
            parts = _split(batch, microbatches, mesh)
            grads, means = _accumulate(gradient, state.params, parts, key, weights)
        updates, optimizer_state = optimizer.update(grads, state.optimizer, state.params)
        rate = schedule(state.step)
        updates = jax.tree.map(lambda update: -rate * update, updates)
        params = optax.apply_updates(state.params, updates)
        one = jnp.ones(())
        means["gradient_norm"] = Mean(optax.tree.norm(grads), one)
        means["learning_rate"] = Mean(rate, one)
        # Pinned, so that the next step finds its inputs where this compilation had them.
        params, optimizer_state = jax.lax.with_sharding_constraint(
            (params, optimizer_state), tree_shardings((params, optimizer_state), mesh)
        )
        return TrainState(state.step + 1, params, optimizer_state, state.key), means

    return jax.jit(train_step, donate_argnums=0)


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
