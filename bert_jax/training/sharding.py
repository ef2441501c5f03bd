"""One mesh constructor and one table of where parameters live."""

import math
import re
from collections.abc import Callable

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from bert_jax.arrays import HEAD_AXIS, ROW_AXES
from bert_jax.config import MeshConfig
from bert_jax.errors import InputError
from bert_jax.training.paths import map_paths

AXES = (*ROW_AXES, HEAD_AXIS)

# First match wins; a leaf no rule names is replicated. The same rules place Adam's
# running means, whose paths end in the parameter's.
RULES = (
    (r"embeddings/token$", ("tensor", "fsdp")),
    (r"embeddings/(position|segment)$", (None, "fsdp")),
    (r"(query|key|value)/kernel$", ("fsdp", "tensor", None)),
    (r"(query|key|value)/bias$", ("tensor", None)),
    (r"attention/output/kernel$", ("tensor", None, "fsdp")),
    (r"intermediate/kernel$", ("fsdp", "tensor")),
    (r"intermediate/bias$", ("tensor",)),
    (r"feed_forward/output/kernel$", ("tensor", "fsdp")),
    (r"mlm/bias$", ("tensor",)),
    (r"(mlm|pooler)/dense/kernel$", ("fsdp", None)),
)


def make_mesh(config: MeshConfig, devices: list[jax.Device] | None = None) -> Mesh:
    """A data x fsdp x tensor mesh over all devices, with Auto axes.

    Raises InputError when the axes do not multiply to the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    sizes = [config.data, config.fsdp, config.tensor]
    known = int(np.prod([size for size in sizes if size != -1]))
    if sizes.count(-1) == 1 and known > 0 and len(devices) % known == 0:
        sizes[sizes.index(-1)] = len(devices) // known
    if min(sizes) < 1 or np.prod(sizes) != len(devices):
        raise InputError(
            f"config.mesh {config.data} x {config.fsdp} x {config.tensor} does not use the"
            f" {len(devices)} devices here: make the product {len(devices)}, or one axis -1."
        )
    # jax.make_mesh lays an axis along whole axes of a torus, which few meshes of a v4, v5p or v6e
    # have room for.
    grid = mesh_utils.create_device_mesh(sizes, devices, allow_split_physical_axes=True)
    return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * 3)


def one_device_mesh() -> Mesh:
    """The device that jax uses where nothing says another."""
    return make_mesh(MeshConfig(1, 1, 1), jax.local_devices()[:1])


def row_shards(mesh: Mesh) -> int:
    """Into how many parts the rows of a batch are split."""
    return math.prod(mesh.shape[axis] for axis in ROW_AXES)


def check_batch(mesh: Mesh, batch_size: int, microbatches: int = 1) -> None:
    """Raises InputError when a microbatch does not divide over the data axes."""
    ways = row_shards(mesh)
    if batch_size % (ways * microbatches):
        raise InputError(
            f"config.batch_size={batch_size} is not a multiple of {ways * microbatches}"
            f" ({ways} devices along data and fsdp x {microbatches} microbatches)."
        )


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Rows are split over data and fsdp."""
    return NamedSharding(mesh, PartitionSpec(ROW_AXES))


def host_part(mesh: Mesh) -> tuple[int, int]:
    """Which part of a batch's rows lies on this host's devices: (index, parts).

    Hosts that share rows, as where the tensor axis goes over hosts, are given the same part.
    Raises InputError when the devices of two hosts hold some rows in common and others not.
    """
    ways = row_shards(mesh)
    held: dict[int, set[int]] = {}
    for device, (rows,) in batch_sharding(mesh).devices_indices_map((ways,)).items():
        held.setdefault(device.process_index, set()).add(rows.start or 0)
    parts = sorted({tuple(sorted(rows)) for rows in held.values()})
    if sum(map(len, parts)) != ways or len({len(part) for part in parts}) > 1:
        raise InputError(
            f"config.mesh {' x '.join(str(size) for size in mesh.shape.values())} shares rows"
            " between hosts unevenly: let config.mesh.tensor be a multiple or a divisor of the"
            f" {len(mesh.local_devices)} devices of a host."
        )
    return parts.index(tuple(sorted(held[jax.process_index()]))), len(parts)


def replicated(mesh: Mesh) -> NamedSharding:
    """The same value on every device."""
    return NamedSharding(mesh, PartitionSpec())


def tree_shardings(tree: PyTree, mesh: Mesh) -> PyTree:
    """The sharding of every leaf of a state (arrays or ShapeDtypeStructs) by RULES.

    An axis that does not divide the dimension is left out, so that any vocabulary
    size and any number of heads runs on any mesh.
    """

    def place(path: str, leaf: jax.Array | jax.ShapeDtypeStruct) -> NamedSharding:
        for pattern, axes in RULES:
            if re.search(pattern, path) and len(axes) == len(leaf.shape):
                fits = [
                    axis if axis and mesh.shape[axis] > 1 and size % mesh.shape[axis] == 0 else None
                    for axis, size in zip(axes, leaf.shape, strict=True)
                ]
                # Written as jit writes its results, without axes of one device and trailing
                # Nones, so that the shardings of a state compare equal before and after.
                while fits and fits[-1] is None:
                    fits.pop()
                return NamedSharding(mesh, PartitionSpec(*fits))
        return replicated(mesh)

    return map_paths(place, tree)


def batch_placer(mesh: Mesh) -> Callable[[PyTree], PyTree]:
    """A function that turns this host's rows into global arrays, sharded by row."""
    sharding = batch_sharding(mesh)

    def place(batch: PyTree) -> PyTree:
        return jax.tree.map(
            lambda rows: jax.make_array_from_process_local_data(sharding, rows), batch
        )

    return place
