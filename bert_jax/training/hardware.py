"""What a chip can do, by the name jax has for it."""

from typing import NamedTuple

import jax
from jax.sharding import Mesh

# Versions of TPUs by the names that jax tells their chips apart by, of some two
# (jax/_src/pallas/mosaic/tpu_info.py).
VERSIONS = {
    "TPU v4": "v4",
    "TPU v5 lite": "v5e",
    "TPU v5e": "v5e",
    "TPU v5": "v5p",
    "TPU v5p": "v5p",
    "TPU v6 lite": "v6e",
    "TPU v6e": "v6e",
}

# Dense bfloat16 multiply-adds in float32, each counted as two operations; those of TPUs stand
# in TPUS. NVIDIA's data sheets and for the RTX 4090 its Ada whitepaper, half of the figure where
# they print it with sparsity; the names are the driver's. The tensor cores of V100 and T4 have no
# bfloat16: theirs are the peaks in float16.
GPU_PEAK_FLOPS = {
    "NVIDIA A100-SXM4-40GB": 312e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA A100-PCIE-40GB": 312e12,
    "NVIDIA A100 80GB PCIe": 312e12,
    "NVIDIA H100 80GB HBM3": 989e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H200": 989e12,
    "NVIDIA L4": 121e12,
    "NVIDIA GeForce RTX 4090": 165.2e12,
    "Tesla T4": 65e12,
    "Tesla V100-SXM2-16GB": 125e12,
    "Tesla V100-SXM2-32GB": 125e12,
}

# A layer's share of what a step takes to be traced and compiled: on two cores of a Xeon six layers
# of width 384 take 12 s, two of width 512 6 s.
COMPILATION_SECONDS = 2.0
# Operations a second in fine-tuning: of those two cores; of other chips as a share of the peak,
# which of one that no table has is taken to be a middling one.
CPU, CPU_FLOPS = "cpu", 1e11
REACHED, MIDDLING_PEAK = 0.3, 1e14

# What XLA is told beyond its defaults, by version, found by its own estimates of BERT-Base's
# step: larger windows of the matrix products (16 MiB is the default), and no products in rounds
# with the exchange of sharded parameters between them.
_LARGER_WINDOWS = {
    "xla_tpu_scoped_vmem_limit_kib": "49152",
    "xla_jf_spmd_threshold_for_windowed_einsum_mib": "1000000",
}
COMPILER_OPTIONS = {
    "v5e": _LARGER_WINDOWS,
    "v5p": _LARGER_WINDOWS,
    "v6e": _LARGER_WINDOWS,
}


def compiler_options(mesh: Mesh) -> dict[str, str]:
    """For `jax.jit` of a step on these devices; empty where nothing was tried."""
    return COMPILER_OPTIONS.get(VERSIONS.get(mesh.devices.flat[0].device_kind), {})


def peak_flops(device: jax.Device) -> float | None:
    """Operations a second in bfloat16; None for what no table has, such as a CPU."""
    kind = device.device_kind
    return TPUS[VERSIONS[kind]].peak_flops if kind in VERSIONS else GPU_PEAK_FLOPS.get(kind)


def total_peak_flops(mesh: Mesh) -> float | None:
    """`peak_flops` of all devices together, which are of one kind."""
    peak = peak_flops(mesh.devices.flat[0])
    return None if peak is None else peak * mesh.devices.size


def compilation_flops(layers: int, mesh: Mesh) -> float:
    """Operations that the devices could do, about, while a step of so many layers is compiled."""
    if mesh.devices.flat[0].device_kind == CPU:
        return layers * COMPILATION_SECONDS * CPU_FLOPS
    peak = total_peak_flops(mesh) or MIDDLING_PEAK * mesh.devices.size
    return layers * COMPILATION_SECONDS * REACHED * peak


class Tpu(NamedTuple):
    """What a plan reckons with; all of it is for one chip."""

    peak_flops: float
    hertz: float  # of the cycles that the compiler estimates in
    hbm_bytes: int  # that a program may use
    hbm_bytes_per_second: float
    ici_bytes_per_second: float  # over all links to other chips, one way
    lanes: int  # float32 lanes of the vector units
    alus: int  # vector operations that a lane begins in a cycle
    matrix_unit: int  # what the sides of a product are filled up to
    shapes: tuple[str, ...]  # of the slices that are rented out

    def kernel_seconds(
        self,
        *,
        matmul_flops: float,
        exponentials: float,
        random_words: float,
        elementwise: float,
        bytes: float,
    ) -> float:
        """Of a Pallas kernel, on the slow side: the units of a core as if they took turns.

        A lane does `alus` elementwise operations a cycle, one exponential, and one random word
        in RANDOM_CYCLES. Reading and writing memory hides behind that, or that behind it.
        """
        computing = (
            matmul_flops / self.peak_flops
            + elementwise / self.vector_operations_per_second
            + (exponentials + random_words * RANDOM_CYCLES) / (self.lanes * self.hertz)
        )
        return max(computing, bytes / self.hbm_bytes_per_second)

    @property
    def vector_operations_per_second(self) -> float:
        """On float32 lanes, all of them busy."""
        return self.alus * self.lanes * self.hertz


# How fast the generator of random numbers is, nobody has published, and the compiler has no
# estimate for it; a word a lane in 4 cycles is an assumption.
RANDOM_CYCLES = 4

_GIB = 2**30
_FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_CUBES = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8", "8x8x16")

# Peak, memory and link rates and shapes: cloud.google.com/tpu/docs/v4, /v5e, /v5p, /v6e; of the
# links half of the figure for both ways (v4: 6 links of 50 GB/s, arXiv:2304.01433). A core has
# 8 x 128 lanes (jax/_src/pallas/mosaic/tpu_info.py), a v4 and a v5p chip two cores. The clock is
# the peak over the operations of the matrix units in a cycle: 2 x 128 x 128 of each of 4 in a
# core, of a v6e 2 x 256 x 256. libtpu 0.0.52 reckons with them: it estimates a product of
# 8,192 x 8,192 at 93, 88, 90 and 70 % of the peak (v4, v5e, v5p, v6e), Threefry, some 120 vector
# operations a number, at 94 to 97 % of `lanes` and `alus`, and exponentials at 0.7 to 1.2 a lane
# and cycle. Memory: what its message that a program is too large calls available.
TPUS = {
    "v4": Tpu(275e12, 1.05e9, int(30.75 * _GIB), 1.2e12, 300e9, 2048, 2, 128, _CUBES),
    "v5e": Tpu(197e12, 1.5e9, int(15.75 * _GIB), 819e9, 200e9, 1024, 4, 128, _FLAT),
    "v5p": Tpu(459e12, 1.75e9, int(95.73 * _GIB), 2.765e12, 600e9, 2048, 4, 128, _CUBES),
    "v6e": Tpu(918e12, 1.75e9, int(31.24 * _GIB), 1.638e12, 400e9, 1024, 4, 256, _FLAT),
}
