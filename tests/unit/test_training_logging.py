"""Points as lines and as TensorBoard events, on a disk with room or without."""

import errno
import json
import math

import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import RecordWriter

from bert_jax.errors import InputError
from bert_jax.training.logging import RunLog, read_metrics

FULL = r"run cannot be written \(the disk is full\): free space and run the command again\."


def write(workdir, *points, step=0):
    workdir.mkdir(exist_ok=True)
    with RunLog(workdir, step=step, total_steps=9, title="test") as log:
        for at, metrics in points:
            log.write(at, "train", metrics)


def events(workdir):
    """Every event, read by the record format: length, its checksum, content, its checksum."""
    found = []
    for path in sorted((workdir / "tensorboard").iterdir()):
        content = path.read_bytes()
        while content:
            size = int.from_bytes(content[:8], "little")
            found.append(Event.FromString(content[12 : 12 + size]))
            content = content[16 + size :]
    return found


def test_every_number_is_an_event(tmp_path):
    write(tmp_path, (1, {"loss": 0.5, "none": math.nan}), (2, {"loss": 0.25}))
    told = [(e.step, v.tag, v.simple_value) for e in events(tmp_path) for v in e.summary.value]
    assert told == [(1, "train/loss", 0.5), (2, "train/loss", 0.25)]
    starts = [e.step for e in events(tmp_path) if e.session_log.status == SessionLog.START]
    assert starts == [1]  # TensorBoard forgets what an earlier run has from here on
    assert read_metrics(tmp_path)[0] == {"step": 1, "split": "train", "loss": 0.5, "none": None}


def full(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_ends_the_run_with_a_sentence(tmp_path, monkeypatch):
    # More points than tensorboardX queues for a thread of its own, which dies of this.
    workdir = tmp_path / "run"
    monkeypatch.setattr(RecordWriter, "flush", full)
    with pytest.raises(InputError, match=FULL):
        write(workdir, *((step, {"loss": 1.0}) for step in range(1, 30)))
    assert json.loads((workdir / "metrics.jsonl").read_text())["step"] == 1


class Disk:
    """A file that takes a few bytes a write, on a disk with room for so many."""

    def __init__(self, file, room):
        self._file, self._room = file, room

    def write(self, content):
        if not self._room:
            full()
        written = self._file.write(content[: min(7, self._room)])
        self._room -= written
        return written

    def __getattr__(self, name):
        return getattr(self._file, name)


def test_a_line_is_written_whole_or_not_at_all(tmp_path):
    workdir = tmp_path / "run"
    write(workdir, (1, {"loss": 0.5}))
    path = workdir / "metrics.jsonl"
    line = path.read_bytes()
    with RunLog(workdir, step=1, total_steps=9, title="test") as log:
        log._file = Disk(log._file, room=2 * len(line) + 10)
        for step in (2, 3):  # in several writes each
            log.write(step, "train", {"loss": 0.5})
        with pytest.raises(InputError, match=FULL):
            log.write(4, "train", {"loss": 0.5})
    assert path.read_bytes() == b"".join(line.replace(b"1", b"%d" % step, 1) for step in (1, 2, 3))


def test_a_line_that_is_no_json_is_named(tmp_path):
    write(tmp_path, (1, {"loss": 0.5}), (2, {"loss": 0.25}))
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text().replace('"step": 1', '"step"; 1'))
    for read in (lambda: write(tmp_path, step=2), lambda: read_metrics(tmp_path)):
        with pytest.raises(InputError, match=r"metrics\.jsonl:1 is no JSON: .*delete that line"):
            read()
