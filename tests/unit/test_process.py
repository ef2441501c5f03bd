"""What a process settles before jax starts."""

import subprocess
import sys

import pytest

from bert_jax import process

# A thread writes to 100 MB and frees them, three times; prints the pages fetched the last time.
CODE = """
import resource, threading
from bert_jax import process
{settle}
def take():
    bytearray(100_000_000)[::4096] = bytes(24415)
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    thread = threading.Thread(target=take)
    thread.start()
    thread.join()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.parametrize(
    ("settle", "is_kept"), [("process.keep_freed_memory()", True), ("", False)]
)
def test_freed_memory_is_there_for_what_comes_next(settle, is_kept):
    code = CODE.format(settle=settle)
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (int(found.stdout) < 100) == is_kept


def test_hosts_of_accelerators_keep_malloc_as_it_is(monkeypatch, tmp_path):
    kept = []
    monkeypatch.setattr(process, "keep_freed_memory", lambda: kept.append(True))
    monkeypatch.setattr(process, "ACCELERATORS", (str(tmp_path / "accel*"),))
    process.settle()
    assert kept == [True]
    (tmp_path / "accel0").touch()
    process.settle()
    assert kept == [True]
