"""Peaks by the names that jax has for devices."""

from unittest import mock

import jax
import numpy as np
import pytest

from bert_jax.training import hardware


def peak_of(kind):
    return hardware.peak_flops(mock.Mock(spec=jax.Device, device_kind=kind))


@pytest.mark.parametrize(
    ("kind", "tera"),
    [
        # cloud.google.com/tpu/docs: peak compute per chip, bf16.
        ("TPU v4", 275),
        ("TPU v5 lite", 197),
        ("TPU v5e", 197),
        ("TPU v5", 459),
        ("TPU v5p", 459),
        ("TPU v6 lite", 918),
        ("TPU v6e", 918),
        # NVIDIA's data sheets: dense bfloat16 tensor cores.
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H200", 989),
        ("NVIDIA L4", 121),
        ("NVIDIA A100-PCIE-40GB", 312),
        ("NVIDIA A100 80GB PCIe", 312),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA GeForce RTX 4090", 165.2),
        # Without bfloat16: dense float16.
        ("Tesla T4", 65),
        ("Tesla V100-SXM2-16GB", 125),
        ("Tesla V100-SXM2-32GB", 125),
    ],
)
def test_published_peaks(kind, tera):
    assert peak_of(kind) == tera * 1e12


@pytest.mark.parametrize("kind", ["TPU v4 lite", "TPU v9", "NVIDIA H100 NVL", "TPU", ""])
def test_another_chip_is_not_taken_for_one_of_the_table(kind):
    assert peak_of(kind) is None


def mesh_of(kind, shape):
    mesh = mock.Mock(spec=jax.sharding.Mesh)
    mesh.devices = np.full(shape, mock.Mock(spec=jax.Device, device_kind=kind))
    return mesh


def test_the_peak_of_a_mesh_is_that_of_all_its_devices():
    assert hardware.total_peak_flops(mesh_of("TPU v4", (2, 3))) == 6 * 275e12
    assert hardware.total_peak_flops(mesh_of("cpu", (2, 3))) is None


def test_a_compilation_costs_what_all_devices_would_do_meanwhile():
    layer = hardware.compilation_flops(1, mesh_of("TPU v4", (1,)))
    assert 0.1 * 275e12 < layer / hardware.COMPILATION_SECONDS < 275e12
    assert hardware.compilation_flops(12, mesh_of("TPU v4", (2, 3))) == pytest.approx(72 * layer)
    assert hardware.compilation_flops(1, mesh_of("cpu", (2, 3))) < layer / 100
    assert layer / 10 < hardware.compilation_flops(1, mesh_of("NVIDIA A10G", (1,))) < layer
    assert hardware.compilation_flops(1, mesh_of("NVIDIA A10G", (2, 3))) > 2 * layer


@pytest.mark.parametrize(
    ("kind", "version"),
    [("TPU v5 lite", "v5e"), ("TPU v5e", "v5e"), ("TPU v4", None), ("cpu", None)],
)
def test_a_chip_has_the_options_of_its_version_by_either_name(kind, version):
    wanted = hardware.COMPILER_OPTIONS[version] if version else {}
    assert hardware.compiler_options(mesh_of(kind, (1,))) == wanted


def test_a_cpu_has_no_peak():
    assert hardware.peak_flops(jax.devices()[0]) is None


@pytest.mark.parametrize("version", hardware.TPUS)
def test_a_clock_and_a_peak_agree(version):
    # A multiply-add a cycle of each place in each of 4 units in 1 or 2 cores.
    tpu = hardware.TPUS[version]
    units = {"v4": 8, "v5e": 4, "v5p": 8, "v6e": 4}[version]
    assert tpu.peak_flops == pytest.approx(units * 2 * tpu.matrix_unit**2 * tpu.hertz, rel=0.01)


def test_a_kernel_adds_up_its_units_or_waits_for_memory():
    work = dict(matmul_flops=197e9, exponentials=1024 * 1.5e6, random_words=1024 * 1.5e6 / 4)
    work |= dict(elementwise=4 * 1024 * 1.5e6, bytes=0.0)  # a millisecond each
    v5e = hardware.TPUS["v5e"]
    assert v5e.kernel_seconds(**work) == pytest.approx(4e-3)
    assert v5e.kernel_seconds(**work | dict(bytes=819e9)) == pytest.approx(1.0)
