"""The rows of a batch on a mesh: each device has its own."""

import math

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float

from bert_jax.arrays import ROW_AXES


def divides_rows(mesh: Mesh, rows: int) -> bool:
    """Whether every device gets as many."""
    return rows % math.prod(mesh.shape[axis] for axis in ROW_AXES) == 0


def keep_rows(mesh: Mesh | None, x: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
    """The same array, its rows on the devices that have them of the batch, each row whole.

    Without this the partitioner may follow the shards of parameters, and exchange the activations
    of all rows in their place. Kernels do it by their `shard_map`.
    """
    if mesh is None or not divides_rows(mesh, x.shape[0]):
        return x
    return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, PartitionSpec(ROW_AXES)))
