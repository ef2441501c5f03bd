"""What a process must settle before jax starts: its threads, and what it keeps of its memory."""

import ctypes
import glob
import os
import platform
import re

# As Linux names them: TPUs, NVIDIA's GPUs, AMD's.
ACCELERATORS = ("/dev/accel*", "/dev/vfio/[0-9]*", "/dev/nvidia[0-9]*", "/dev/kfd")

# Options of glibc's mallopt (malloc.h).
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


def settle() -> None:
    """To be called first in a process."""
    give_cpu_devices_threads()
    if not any(map(glob.glob, ACCELERATORS)):
        keep_freed_memory()


def give_cpu_devices_threads() -> None:
    """Where a CPU stands for several devices, XLA's pool must have two threads for each.

    By itself it has one a core, or one a device where those are more. A device that waits in
    a collective may hold two, so that all are held by devices that wait for the one that finds
    none: without an end, or until XLA aborts. A number that is set already is kept.
    """
    forced = re.search(r"host_platform_device_count=(\d+)", os.environ.get("XLA_FLAGS", ""))
    devices = forced[1] if forced else os.environ.get("JAX_NUM_CPU_DEVICES", "")
    if devices.isdigit() and int(devices) > 1:
        os.environ.setdefault("PJRT_NPROC", str(max(2 * int(devices), os.cpu_count() or 1)))


def keep_freed_memory() -> None:
    """Has glibc keep what is freed for what comes next.

    XLA takes the memory of a step on a CPU anew from malloc, which hands so large a piece back to
    the kernel each time, to be given it again, zeroed, page by page: a good part of a small
    model's step (tests/benchmarks/step.py measures it). One arena, for those of other threads
    hold 64 MiB at most. A process that peaks stays as large.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(_ARENA_MAX, 1)
    mallopt(_MMAP_MAX, 0)
    mallopt(_TRIM_THRESHOLD, 2**31 - 1)
