"""A pretraining of 60 steps, run straight once, and the table of what befell its copies."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from integration import corpus
from told import TOLD

from bert_jax.data import prepare

ROOT = Path(__file__).parents[2]
PATIENCE = 120  # seconds until a run that tells nothing is killed


class Victim:
    """One workdir, and processes that train in it."""

    def __init__(self, workdir, config, environment):
        self.workdir = workdir
        self._config = config
        self._environment = environment

    def start(self, fault="none", at=0):
        """The process, running."""
        command = [sys.executable, str(Path(__file__).with_name("victim.py"))]
        return subprocess.Popen(
            [*command, fault, str(at), str(self._config), str(self.workdir)],
            cwd=ROOT,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, fault="none", at=0):
        """(exit code, what was said), once it has ended."""
        process = self.start(fault, at)
        out, error = process.communicate(timeout=120)
        return process.returncode, out + error

    def finish(self):
        """Runs it to its end, which must come without an error."""
        code, said = self.run()
        assert code == 0, said
        return said

    def start_until(self, step):
        """The process, running, once it has logged `step`."""
        process = self.start()
        metrics = self.workdir / "metrics.jsonl"
        until = time.monotonic() + PATIENCE
        while not (metrics.exists() and f'"step": {step},' in metrics.read_text("utf-8")):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < until, process.kill()
            time.sleep(0.01)
        return process

    def signal_after_step(self, step, number=signal.SIGTERM, delay=0.0):
        """Starts, and once `step` is logged and `delay` has passed, sends the signal."""
        process = self.start_until(step)
        time.sleep(delay)
        process.send_signal(number)
        out, error = process.communicate(timeout=120)
        return process.returncode, out + error


@pytest.fixture(scope="session")
def environment(tmp_path_factory):
    """One device, what was compiled once, and every optimization, as a user's run has it."""
    compiled = tmp_path_factory.mktemp("compiled")
    inherited = {k: v for k, v in os.environ.items() if k != "JAX_DISABLE_MOST_OPTIMIZATIONS"}
    return inherited | {
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(compiled),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "PYTHONPATH": str(ROOT),
    }


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A prepared dataset of the small corpus."""
    root = tmp_path_factory.mktemp("faults")
    documents = corpus.write_documents(root / "documents.txt", corpus.documents())
    prepare.run(corpus.prepare_config(documents), root / "data")
    return root / "data"


@pytest.fixture(scope="session")
def config_path(data, tmp_path_factory):
    """60 steps, a point every 5, a checkpoint every 10, an evaluation every 20."""
    config = corpus.pretrain_config(data)
    config.update(steps=60, log_every=5, save_every=10, eval_every=20, keep=3)
    path = tmp_path_factory.mktemp("config") / "config.json"
    path.write_text(config.to_json(), "utf-8")
    return path


@pytest.fixture
def victim(tmp_path, config_path, environment):
    """A fresh workdir."""
    return Victim(tmp_path / "run", config_path, environment)


@pytest.fixture(scope="session")
def straight(tmp_path_factory, config_path, environment):
    """The workdir of the run to which nothing happened."""
    undisturbed = Victim(tmp_path_factory.mktemp("straight") / "run", config_path, environment)
    undisturbed.finish()
    return undisturbed.workdir


@pytest.fixture
def tell(record_property):
    """Adds a row to the table: what was done, how often, what was lost."""
    return lambda *row: record_property(TOLD, row)
