"""Megabytes a second and peak memory of a preparation, by number of workers.

    python tests/benchmarks/preparation.py --config=configs/prepare_english.py --workdir=runs/bench

Each number of workers prepares the same sources in a fresh directory; the shards must come
out with the same bytes. Memory is the proportional set size of all processes together.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

INTERVAL = 0.2  # seconds between looks at the memory


def prepare(config: str, workdir: Path, workers: int, flags: list[str]) -> tuple[float, float]:
    """Seconds, and megabytes at the peak."""
    shutil.rmtree(workdir, ignore_errors=True)
    command = [sys.executable, "-m", "bert_jax.prepare", f"--config={config}"]
    command += [f"--workdir={workdir}", f"--config.workers={workers}", *flags]
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, _memory(process.pid))
        time.sleep(INTERVAL)
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}")
    return time.monotonic() - started, peak


def _memory(pid: int) -> float:
    """Megabytes of the process and all that it has started."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
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
    arguments, flags = parser.parse_known_args()
    shards = []
    for workers in arguments.workers:
        directory = arguments.workdir / f"workers_{workers}"
        seconds, peak = prepare(arguments.config, directory, workers, flags)
        manifest = json.loads((directory / "manifest.json").read_text("utf-8"))
        shards.append(manifest["shards"])
        megabytes = manifest["text_bytes"] / 1e6
        print(
            f"{workers} workers: {megabytes:,.1f} MB of text in {seconds:,.0f} s,"
            f" {megabytes / seconds:.2f} MB/s, peak {peak:,.0f} MB",
            flush=True,
        )
    same = all(found == shards[0] for found in shards)
    print(f"{len(shards[0])} shards, {'the same bytes' if same else 'DIFFERENT BYTES'}")
    sys.exit(not same)


if __name__ == "__main__":
    main()
