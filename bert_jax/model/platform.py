"""What a step is compiled for: said by the mesh, as it need not be where it is compiled."""

from jax.sharding import Mesh


def platform(mesh: Mesh | None) -> str:
    """ "tpu", "gpu" or "cpu"; without a mesh "", which nothing is special for."""
    return mesh.devices.flat[0].platform if mesh else ""


def is_tpu(mesh: Mesh | None) -> bool:
    """Whether the kernels of `bert_jax.model.kernels` run there."""
    return platform(mesh) == "tpu"
