"""What may happen to a run, done to real ones: afterwards each is as if it had not been."""

import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import time

import pytest
from faults.victim import SECONDS_A_STEP
from integration.test_resume import assert_same_run, points

from bert_jax.training.logging import read_metrics

pytestmark = pytest.mark.slow

SAVE_EVERY = 10


def saved_steps(victim):
    found = (victim.workdir / "checkpoints").glob("*")
    return sorted(int(path.name) for path in found if path.name.isdigit())


def test_killed_at_ten_random_moments(victim, straight, tell):
    rng = random.Random(0)
    lost = []
    for number in range(10):
        # Every third while it starts, the others up to ten steps after it has logged a point.
        if number % 3 == 0:
            process = victim.start()
            time.sleep(rng.uniform(0.2, 4.0))
            process.send_signal(signal.SIGKILL)
            process.communicate()
        else:
            goes_on_from = max([0, *saved_steps(victim)])
            code, said = victim.signal_after_step(
                goes_on_from + 5, signal.SIGKILL, delay=rng.uniform(0, 10 * SECONDS_A_STEP)
            )
            assert code == -signal.SIGKILL, said
        logged = [point["step"] for point in read_metrics(victim.workdir)] if lost else []
        lost.append(max([0, *logged]) - max([0, *saved_steps(victim)]))
    victim.finish()
    assert_same_run(victim.workdir, straight)
    assert max(lost) <= SAVE_EVERY
    tell("kill -9 at random moments", 10, f"at most {max(lost)} logged steps each, redone")


@pytest.mark.parametrize(
    ("fault", "at", "goes_on_from"),
    [
        ("kill in step", 27, {20}),
        ("kill in save", 30, {20, 30}),
        ("kill after save", 30, {30}),
    ],
)
def test_killed_at_the_worst_moment(fault, at, goes_on_from, victim, straight, tell):
    code, said = victim.run(fault, at)
    assert code == -signal.SIGKILL, said
    found = saved_steps(victim)
    assert max(found) in goes_on_from
    victim.finish()
    assert_same_run(victim.workdir, straight)
    tell(f"kill -9, {fault.removeprefix('kill ')} {at}", 1, f"{at - max(found)} steps, redone")


def test_sigterm(victim, straight, tell):
    stopped = []
    for step in (5, 25, 45):
        code, said = victim.signal_after_step(step, delay=0.1)
        assert code == 143, said
        stopped.append(int(re.search(r"stopped by SIGTERM with step (\d+) saved", said).group(1)))
        assert saved_steps(victim)[-1] == stopped[-1]
    assert stopped == sorted(set(stopped))
    victim.finish()
    assert_same_run(victim.workdir, straight)
    tell(
        "SIGTERM", len(stopped), f"nothing: saved at steps {', '.join(map(str, stopped))}; exit 143"
    )


def flip_a_byte_of_an_array(checkpoint):
    path = max((p for p in checkpoint.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate_the_arrays(checkpoint):
    path = max((p for p in checkpoint.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def delete_the_metadata(checkpoint):
    for path in [p for p in checkpoint.rglob("*METADATA*") if p.is_file()]:
        path.unlink()


@pytest.mark.parametrize(
    ("what", "damage"),
    [
        ("one byte of an array of the newest checkpoint flipped", flip_a_byte_of_an_array),
        ("newest checkpoint truncated", truncate_the_arrays),
        ("its metadata gone", delete_the_metadata),
    ],
)
def test_the_newest_checkpoint_is_damaged(what, damage, victim, straight, tell):
    victim.run("kill after save", 40)
    damage(victim.workdir / "checkpoints" / "40")
    said = victim.finish()
    line = re.search(r"checkpoint 40 of .* kept in damaged/40.*", said)
    assert line, said
    assert_same_run(victim.workdir, straight)
    tell(what, 1, "10 steps, redone; said, and kept in damaged/40")


def test_a_bad_batch(victim, straight, tell):
    code, said = victim.run("bad batch", 33)
    assert code == 0, said
    assert re.search(
        r"step 33: the loss or its gradient is not finite, the update is skipped \(samples 256 to"
        r" 263 of ",
        said,
    )
    found = points(victim.workdir)
    assert [p["step"] for p in found if p.get("skipped")] == [35]
    assert all(value is not None for point in found for value in point.values())
    before = [p for p in points(straight) if p["step"] < 35]
    assert found[: len(before)] == before
    tell("a NaN in a batch", 1, "that update: skipped, counted, its samples named")


def test_a_data_source_that_goes(victim, straight, data, tell, tmp_path):
    shard = next(data.glob("*train.array_record*"))
    kept = shutil.copy(shard, tmp_path / "kept")
    process = victim.start_until(15)
    try:
        # As a lost mount: what is open has no more to give.
        os.truncate(shard, 0)
        out, error = process.communicate(timeout=120)
    finally:
        shutil.copy(kept, shard)
    said = out + error
    assert process.returncode == 2, said
    assert str(shard) in said.splitlines()[-1]
    assert "Traceback" not in said
    logged = read_metrics(victim.workdir)[-1]["step"]
    lost = logged - max(saved_steps(victim))
    assert lost <= SAVE_EVERY
    victim.finish()
    assert_same_run(victim.workdir, straight)
    tell("the data goes during the run", 1, f"{lost} logged steps, redone; exit 2, the file named")


@pytest.fixture
def small_disk(tmp_path):
    """Mounts a file system of so many bytes; called again, makes it larger."""
    place = tmp_path / "disk"

    def resize(size):
        is_new = not place.exists()
        place.mkdir(exist_ok=True)
        options = f"size={size}" if is_new else f"remount,size={size}"
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", place]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("no file system can be mounted here")
        return place

    yield resize
    subprocess.run(["umount", place], check=False)


def bytes_in(directory):
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def assert_says_full(code, said):
    assert code == 2, said
    assert "the disk is full): free space and run the command again" in said.splitlines()[-1]
    assert "Traceback" not in said


def logged_since_the_save(victim):
    return read_metrics(victim.workdir)[-1]["step"] - max(saved_steps(victim))


def test_the_disk_is_full_before_the_first_step(victim, straight, small_disk, tell):
    victim.workdir = small_disk(16 * 2**10) / "run"
    assert_says_full(*victim.run())
    small_disk(20 * bytes_in(straight / "checkpoints" / "60"))
    victim.finish()
    assert_same_run(victim.workdir, straight)
    tell("disk full before the first step", 1, "nothing; said, exit 2")


def test_the_disk_is_full_when_a_checkpoint_is_saved(victim, straight, small_disk, tell):
    room = int(2.5 * bytes_in(straight / "checkpoints" / "60"))
    victim.workdir = small_disk(room) / "run"
    assert_says_full(*victim.run())
    assert not list((victim.workdir / "checkpoints").glob("*tmp*"))
    lost = logged_since_the_save(victim)
    small_disk(20 * room)
    victim.finish()
    assert_same_run(victim.workdir, straight)
    tell("disk full in a save", 1, f"{lost} logged steps, redone; said, exit 2")


def test_the_disk_is_full_between_two_saves(victim, straight, small_disk, tell):
    room = 20 * bytes_in(straight / "checkpoints" / "60")
    victim.workdir = small_disk(room) / "run"
    process = victim.start_until(25)
    filling = victim.workdir.parent / "filling"
    with contextlib.suppress(OSError), filling.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(2**12))
    out, error = process.communicate(timeout=120)
    assert_says_full(process.returncode, out + error)
    lost = logged_since_the_save(victim)
    filling.unlink()
    victim.finish()
    assert_same_run(victim.workdir, straight)
    tell("disk full between two saves", 1, f"{lost} logged steps, redone; said, exit 2")


def test_two_runs_in_one_workdir(victim, straight, tell):
    first = victim.start_until(5)
    first.send_signal(signal.SIGSTOP)  # or it may have ended before the second has begun
    code, said = victim.run()
    first.send_signal(signal.SIGCONT)
    assert code == 2, said
    assert f"is in use by process {first.pid} on " in said
    out, error = first.communicate(timeout=120)
    assert first.returncode == 0, out + error
    assert_same_run(victim.workdir, straight)
    tell("a second run in the same workdir", 1, "nothing: the second ends with exit 2")
