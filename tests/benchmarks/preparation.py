r"""Megabytes a second and peak memory of a preparation, by number of workers.

    python tests/benchmarks/preparation.py --config=configs/prepare_bilingual.py \
        --workdir=runs/bench

Each number of workers prepares the same sources in a fresh directory; the shards must come
out with the same bytes. With --beam_options=... Apache Beam does too, and must make the same
records. Memory is the proportional set size of all processes together.
"""

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from array_record.python.array_record_module import ArrayRecordReader

INTERVAL = 0.2  # seconds between looks at the memory


def prepare(name: str, config: str, workdir: Path, flags: list[str]) -> dict[str, dict]:
    """Prepares anew and prints the speed and the peak; returns the shards of the manifest."""
    shutil.rmtree(workdir, ignore_errors=True)
    command = [sys.executable, "-m", "bert_jax.prepare", f"--config={config}"]
    command += [f"--workdir={workdir}", *flags]
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, _memory(process.pid))
        time.sleep(INTERVAL)
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}")
    seconds = time.monotonic() - started
    manifest = json.loads((workdir / "manifest.json").read_text("utf-8"))
    megabytes = manifest["text_bytes"] / 1e6
    print(
        f"{name}: {megabytes:,.1f} MB of text in {seconds:,.0f} s, {megabytes / seconds:.2f} MB/s,"
        f" peak {peak:,.0f} MB",
        flush=True,
    )
    return manifest["shards"]


def records(directory: Path) -> Counter[bytes]:
    """The hash of every record, with how often it is there, held-out ones apart."""
    found: Counter[bytes] = Counter()
    for path in directory.glob("*.array_record-*"):
        reader = ArrayRecordReader(str(path))
        for start in range(0, reader.num_records(), 10_000):
            stop = min(start + 10_000, reader.num_records())
            split = path.name.split(".")[0].encode()
            found.update(hashlib.sha256(split + r).digest() for r in reader.read(start, stop))
    return found


def _memory(pid: int) -> float:
    """Megabytes of the process and all that it has started."""
    try:
        tasks = Path(f"/proc/{pid}/task").glob("*/children")
        children = [child for task in tasks for child in task.read_text().split()]
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has just ended
        return 0.0
    own = next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
    return own / 1000 + sum(_memory(int(child)) for child in children)


def main() -> None:
    """Prints a line for each number of workers, and whether the bytes are the same."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True)
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--beam_options", default="")
    arguments, flags = parser.parse_known_args()
    directories = {n: arguments.workdir / f"workers_{n}" for n in arguments.workers}
    made = [
        prepare(f"{n} workers", arguments.config, path, [f"--config.workers={n}", *flags])
        for n, path in directories.items()
    ]
    is_same = all(shards == made[0] for shards in made)
    print(f"{len(made[0])} shards, {'the same bytes' if is_same else 'DIFFERENT BYTES'}")
    if arguments.beam_options:
        path = arguments.workdir / "beam"
        options = f"--beam_options={arguments.beam_options}"
        prepare("Beam", arguments.config, path, [options, *flags])
        ours = records(directories[arguments.workers[0]])
        is_equal = records(path) == ours
        is_same &= is_equal
        print(f"Beam: {'the same' if is_equal else 'OTHER'} {ours.total():,} records")
    sys.exit(not is_same)


if __name__ == "__main__":
    main()
