"""Real processes over the network layer (gloo) train as one does, and stop together."""

import os
import re
import shutil
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from bert_jax.training.logging import read_metrics

ROOT = Path(__file__).parents[2]
PATIENCE = 240  # seconds; processes that wait for each other for ever are killed
# Of a loss in float32. Sums are taken in another order, and Adam turns the rounding of
# gradients near 0 into whole steps: six steps are few enough.
RELATIVE = 1e-5
COMPARED = ("mlm_loss", "next_loss", "gradient_norm", "mlm_accuracy", "next_accuracy")
CONFIG = (
    "--config=configs/pretrain_base.py:tiny",
    "--config.model.positions=32",
    "--config.masking.max_predictions=6",
    *(f"--config.{field}" for field in ("batch_size=8", "steps=6", "log_every=1")),
    *(f"--config.{field}" for field in ("eval_every=3", "save_every=3")),
)


class Ended(NamedTuple):
    """How a process ended, and its last words."""

    code: int
    stderr: str


@pytest.fixture(scope="module")
def launch(tmp_path_factory):
    """Starts `python -m bert_jax.pretrain` in several processes."""
    inherited = {name: value for name, value in os.environ.items() if name != "PJRT_NPROC"}
    environment = inherited | {
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("compiled")),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }

    def run(*commands, devices=1):
        return [
            subprocess.Popen(
                [sys.executable, "-m", "bert_jax.pretrain", *CONFIG, *flags],
                cwd=ROOT,
                env=environment | {"JAX_NUM_CPU_DEVICES": str(devices)},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            for flags in commands
        ]

    return run


@pytest.fixture(scope="module")
def start(launch):
    """Starts them and waits for all."""
    return lambda *commands, devices=1: wait_for_all(launch(*commands, devices=devices))


def wait_for_all(running):
    """How each ended; one that waits for the others for ever is killed and fails the test."""
    until = time.monotonic() + PATIENCE
    try:
        stderr = [process.communicate(timeout=until - time.monotonic())[1] for process in running]
    finally:
        for process in running:
            process.kill()
    return [Ended(p.returncode, text) for p, text in zip(running, stderr, strict=True)]


def wait_for_step(running, workdir, step):
    """Returns once it is logged; where one ends before, or none logs it, all are killed."""
    metrics = workdir / "metrics.jsonl"
    until = time.monotonic() + PATIENCE
    try:
        while not (metrics.exists() and f'"step": {step},' in metrics.read_text("utf-8")):
            assert {process.poll() for process in running} == {None}
            assert time.monotonic() < until, f"step {step} was not logged in {PATIENCE} s"
            time.sleep(0.05)
    except BaseException:
        for process in running:
            process.kill()
        raise


def free_address():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{server.getsockname()[1]}"


def numbered(count, *flags):
    """The flags of each process of `count`; of one alone they name no coordinator."""
    if count == 1:
        return [flags]
    flags = (*flags, f"--coordinator_address={free_address()}", f"--num_processes={count}")
    return [(*flags, f"--process_id={process}") for process in range(count)]


def pretrain(start, data, workdir, *flags, count, devices):
    flags = (f"--config.data={data}", f"--workdir={workdir}", *flags)
    for process, ended in enumerate(start(*numbered(count, *flags), devices=devices)):
        assert ended.code == 0, ended.stderr
        assert ("pretrain: 100%" in ended.stderr) == (process == 0)  # one shows the progress
    return workdir


def assert_same_losses(workdir, wanted, after=0):
    """The points past step `after` agree, and none is there twice, as of two writers."""
    found, wanted = (
        {(p["step"], p["split"]): p for p in read_metrics(d) if p["step"] > after}
        for d in (workdir, wanted)
    )
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == len({(p["step"], p["split"]) for p in read_metrics(workdir)})
    assert found.keys() == wanted.keys()
    for place, point in found.items():
        for name in COMPARED:
            if name in point:
                np.testing.assert_allclose(
                    point[name], wanted[place][name], rtol=RELATIVE, err_msg=f"{name} {place}"
                )


def assert_one_writer(workdir, alone):
    """The files of a run of one process and no others, one file of events among them."""
    assert {path.name for path in workdir.iterdir()} == {path.name for path in alone.iterdir()}
    assert len(list((workdir / "tensorboard").iterdir())) == 1


@pytest.fixture(scope="module")
def alone(start, data, tmp_path_factory):
    """The workdir of one process with four devices."""
    return pretrain(start, data, tmp_path_factory.mktemp("alone"), count=1, devices=4)


@pytest.mark.slow
def test_two_processes_equal_one(start, data, pretrained, tmp_path):
    # The run of eight devices that other tests have made, in two processes of four.
    pretrain(
        *(start, data, tmp_path, "--config.steps=12", "--config.log_every=3"),
        *("--config.eval_every=6", "--config.save_every=4"),
        count=2,
        devices=4,
    )
    assert_same_losses(tmp_path, pretrained)
    assert_one_writer(tmp_path, pretrained)


# Each process has its part of the rows; or parameters that no process holds whole; or the
# same rows as the others.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "mesh"), [(4, "data=4"), (2, "data=4"), (2, "fsdp=4"), (2, "tensor=4")]
)
def test_any_mesh_over_processes(start, data, alone, tmp_path, count, mesh):
    flags = ("--config.mesh.data=-1", f"--config.mesh.{mesh}")
    pretrain(start, data, tmp_path, *flags, count=count, devices=4 // count)
    assert_same_losses(tmp_path, alone)
    assert_one_writer(tmp_path, alone)


@pytest.mark.slow
def test_saved_on_two_processes_and_continued_on_others(start, data, alone, tmp_path):
    fsdp = "--config.mesh.fsdp=4"
    traced = ("--config.profile_start=3", "--config.profile_steps=1")
    saved = pretrain(start, data, tmp_path / "saved", fsdp, *traced, count=2, devices=2)
    traces = sorted(path.parent.name for path in saved.glob("profile/*/plugins"))
    assert traces == ["process_0", "process_1"]
    shutil.rmtree(saved / "checkpoints" / "6")
    for count in (1, 4):
        workdir = shutil.copytree(saved, tmp_path / f"on_{count}")
        pretrain(start, data, workdir, fsdp, count=count, devices=4 // count)
        # The losses of the steps that were done again, of other rows were they not the same.
        assert_same_losses(workdir, alone, after=3)
        assert read_metrics(workdir)[-1]["step"] == 6


@pytest.mark.slow
def test_a_sigterm_to_one_process_stops_both_after_the_same_step(launch, data, tmp_path):
    flags = (f"--config.data={data}", f"--workdir={tmp_path}", "--config.steps=4000")
    running = launch(*numbered(2, *flags, "--config.save_every=4000"), devices=2)
    wait_for_step(running, tmp_path, 5)
    running[1].terminate()
    ended = wait_for_all(running)
    assert [process.code for process in ended] == [143, 143], ended
    said = {re.search(r"SIGTERM with step (\d+) saved", e.stderr).group(1) for e in ended}
    (step,) = said
    assert [path.name for path in (tmp_path / "checkpoints").glob("[0-9]*")] == [step]


@pytest.mark.slow
def test_two_processes_begin_from_another_model_and_go_on_without_it(start, data, alone, tmp_path):
    origin = shutil.copytree(alone, tmp_path / "origin")
    begin = f"--config.init_from={origin}"
    saved = pretrain(start, data, tmp_path / "saved", begin, count=2, devices=2)
    first, trained = (read_metrics(d)[0]["mlm_loss"] for d in (saved, alone))
    assert first < trained  # an untrained model's
    shutil.rmtree(origin)
    workdir = shutil.copytree(saved, tmp_path / "continued")
    shutil.rmtree(workdir / "checkpoints" / "6")
    pretrain(start, data, workdir, begin, count=2, devices=2)
    assert_same_losses(workdir, saved)


@pytest.mark.slow
def test_damage_that_one_process_alone_meets_sends_all_to_the_checkpoint_before(
    start, data, alone, tmp_path
):
    fsdp = "--config.mesh.fsdp=4"
    pretrain(start, data, tmp_path, fsdp, "--config.keep=2", count=2, devices=2)
    params = tmp_path / "checkpoints" / "6" / "params"
    written = params.glob("ocdbt.process_1/d/*")
    max(written, key=lambda path: path.stat().st_size).write_bytes(b"")
    pretrain(start, data, tmp_path, fsdp, "--config.keep=2", count=2, devices=2)
    assert [path.name for path in (tmp_path / "damaged").iterdir()] == ["6"]
    assert_same_losses(tmp_path, alone)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--config.mesh.data=4",), "config.mesh 4 x 1 x 1 does not use the 6 devices"),
        (
            ("--config.mesh.data=3", "--config.mesh.tensor=2", "--config.batch_size=6"),
            "config.mesh 3 x 1 x 2 shares rows between hosts unevenly",
        ),
    ],
)
def test_a_mesh_that_cannot_be_stops_every_process(start, data, tmp_path, flags, message):
    flags = (f"--config.data={data}", f"--workdir={tmp_path / 'out'}", *flags)
    for ended in start(*numbered(2, *flags), devices=3):
        assert ended.code == 2
        assert ended.stderr.splitlines()[-1].startswith(f"error: {message}")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--config.data=nowhere", "holds no prepared dataset"),
        ("--workdir=nowhere", "name one directory that all hosts share"),
    ],
)
def test_what_one_process_finds_wrong_stops_every_process(start, data, tmp_path, flag, message):
    first, second = numbered(2, f"--workdir={tmp_path / 'out'}", f"--config.data={data}")
    ended = start(first, (*second, flag))
    assert [process.code for process in ended] == [2, 2]
    assert ended[0].stderr.startswith("error: process 1: ")
    for process in ended:
        assert message in process.stderr.splitlines()[-1]
    assert not (ROOT / "nowhere").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("process", "message"),
    [(0, "not all of the 2 processes came to"), (1, "did not let process 1 in within 3 s")],
)
def test_processes_that_do_not_come_are_named(start, tmp_path, process, message):
    flags = numbered(2, f"--workdir={tmp_path / 'out'}", "--initialization_timeout=3")[process]
    (ended,) = start(flags)
    assert ended.code == 2
    assert message in ended.stderr
    address = next(flag for flag in flags if flag.startswith("--coordinator_address="))
    assert address in ended.stderr
    assert not (tmp_path / "out").exists()


FAILS_ALONE = """
    import sys, time
    from bert_jax import cli
    from bert_jax.errors import InputError
    from bert_jax.training import distributed

    distributed.HEARTBEAT_SECONDS, distributed.GOODBYE_SECONDS = 10, 2
    address, process, failing = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    try:
        with distributed.joined(address, 2, process, timeout_seconds=60):
            if process == failing:
                raise InputError("this one only.")
            distributed.barrier("never reached by the other")
    except InputError as error:
        cli.stop(str(error))
"""


@pytest.mark.slow
@pytest.mark.parametrize("failing", [0, 1])
def test_a_process_that_fails_alone_ends_and_so_does_the_other(failing):
    address = free_address()
    running = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(FAILS_ALONE), address, str(n), str(failing)],
            cwd=ROOT,
            env=os.environ | {"JAX_PLATFORMS": "cpu"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for n in range(2)
    ]
    ended = wait_for_all(running)
    assert ended[failing].code == 2
    assert "error: this one only." in ended[failing].stderr
    assert ended[1 - failing].code not in (0, 2)
