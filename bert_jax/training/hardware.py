"""What a chip can do at most, by the name jax has for it."""

import jax
from jax.sharding import Mesh

# Dense bfloat16 multiply-adds in float32, each counted as two operations. TPUs: Google
# Cloud's pages of each version; the two names of some are those jax itself tells apart
# (jax/_src/pallas/mosaic/tpu_info.py). GPUs: NVIDIA's data sheets, half of the figure they
# print with sparsity; the names are the driver's.
PEAK_FLOPS = {
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5e": 197e12,
    "TPU v5": 459e12,
    "TPU v5p": 459e12,
    "TPU v6 lite": 918e12,
    "TPU v6e": 918e12,
    "NVIDIA A100-SXM4-40GB": 312e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA H100 80GB HBM3": 989e12,
    "NVIDIA H200": 989e12,
    "NVIDIA L4": 121e12,
}

# What XLA is told beyond its defaults, found on these chips by the compiler's own estimates
# of BERT-Base's step. Larger windows of the matrix products (16 MiB is the default), and no
# products in rounds with the exchange of sharded parameters between them.
COMPILER_OPTIONS = {
    "TPU v5 lite": {
        "xla_tpu_scoped_vmem_limit_kib": "49152",
        "xla_jf_spmd_threshold_for_windowed_einsum_mib": "1000000",
    },
}


def compiler_options(mesh: Mesh) -> dict[str, str]:
    """For `jax.jit` of a step on these devices; empty where nothing was tried."""
    return COMPILER_OPTIONS.get(mesh.devices.flat[0].device_kind, {})


def peak_flops(device: jax.Device) -> float | None:
    """Operations a second in bfloat16; None for what the table has not, such as a CPU."""
    return PEAK_FLOPS.get(device.device_kind)
