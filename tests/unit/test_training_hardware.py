"""Peaks by the names that jax has for devices."""

from unittest import mock

import jax
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
        ("TPU v5", 459),
        ("TPU v5p", 459),
        ("TPU v6 lite", 918),
        # NVIDIA's data sheets: dense bfloat16 tensor cores.
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H200", 989),
        ("NVIDIA L4", 121),
    ],
)
def test_published_peaks(kind, tera):
    assert peak_of(kind) == tera * 1e12


@pytest.mark.parametrize("kind", ["TPU v4 lite", "TPU v9", "NVIDIA H100 PCIe", "TPU", ""])
def test_another_chip_is_not_taken_for_one_of_the_table(kind):
    assert peak_of(kind) is None


def test_a_cpu_has_no_peak():
    assert hardware.peak_flops(jax.devices()[0]) is None
