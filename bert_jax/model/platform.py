"""What a step is compiled for: said by the mesh, as it need not be where it is compiled."""

import re
from typing import Any

from jax.sharding import Mesh

# cuDNN's fused attention runs from NVIDIA's Ampere on (its support matrix).
_CUDNN_CAPABILITY = 8


def platform(mesh: Mesh | None) -> str:
    """ "tpu", "gpu" or "cpu"; without a mesh "", which nothing is special for."""
    return mesh.devices.flat[0].platform if mesh else ""


def is_tpu(mesh: Mesh | None) -> bool:
    """Whether the kernels of `bert_jax.model.kernels` run there."""
    return platform(mesh) == "tpu"


def has_cudnn_attention(mesh: Mesh | None) -> bool:
    """Whether cuDNN's fused attention runs there: on NVIDIA's GPUs from Ampere on."""
    return platform(mesh) == "gpu" and _runs_cudnn(mesh.devices.flat[0])


def _runs_cudnn(gpu: Any) -> bool:
    # NVIDIA's are numbered, as "8.6"; AMD's have names, as "gfx942".
    capability = re.fullmatch(r"(\d+)\.\d+", getattr(gpu, "compute_capability", ""))
    return bool(capability) and int(capability[1]) >= _CUDNN_CAPABILITY
