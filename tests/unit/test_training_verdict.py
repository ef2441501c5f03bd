"""One verdict on a read for all processes; the other of the two is made up."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import multihost_utils

from bert_jax.errors import InputError
from bert_jax.training import distributed, verdict
from bert_jax.training.checkpoint import Checkpoints
from bert_jax.training.record import Damaged, OtherFormat
from bert_jax.training.state import TrainState
from bert_jax.training.verdict import DAMAGED, UNREADABLE, WELL, agreed

READS = ("run", "its record", "arrays", "their checksums")  # of a checkpoint, in this order


@pytest.fixture
def other(monkeypatch):
    """Lets the other process come to these verdicts, one a read, and after them to WELL."""

    def comes_to(*verdicts):
        said = iter(verdicts)
        asked = []

        def highest(own):
            asked.append(own)
            return max(own, next(said, WELL))

        monkeypatch.setattr(verdict, "highest", highest)
        return asked

    return comes_to


def raising(error):
    def read():
        raise KeyError("Orbax wraps everything") from error

    return read


@pytest.mark.parametrize(
    ("own", "others", "raised", "message"),
    [
        (None, DAMAGED, Damaged, "^another process could not read it$"),
        (None, UNREADABLE, InputError, "^it could not be read by another process: see what"),
        (ValueError("torn"), WELL, Damaged, "^unreadable: torn$"),
        (Damaged("mine"), DAMAGED, Damaged, "^mine$"),
        (Damaged("mine"), UNREADABLE, InputError, "by another process: see what that one says"),
        (MemoryError("mine"), DAMAGED, MemoryError, "^mine$"),
        (OSError("Permission denied"), DAMAGED, InputError, r"^it cannot be read now \(Permi"),
        (OtherFormat("mine"), DAMAGED, OtherFormat, "^mine$"),
    ],
)
def test_the_worst_that_any_process_met_is_what_all_say(own, others, raised, message, other):
    other(others)
    with pytest.raises(raised, match=message):
        agreed("it", raising(own) if own else lambda: 3)


def test_what_went_well_everywhere_is_returned(other):
    other(WELL)
    assert agreed("it", lambda: 3) == 3


def test_the_highest_is_that_of_all_processes(monkeypatch):
    assert distributed.highest(1) == 1
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    monkeypatch.setattr(
        multihost_utils, "process_allgather", lambda own: np.array([0, int(own), 2])
    )
    assert [distributed.highest(own) for own in (0, 3)] == [2, 3]


def make_state(step):
    arrays = {"table": jnp.full((4, 3), float(step))}
    return TrainState(jnp.int32(step), arrays, (), jax.random.key(step), jnp.zeros(()))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Checkpoints of the steps 4 and 8."""
    workdir = tmp_path_factory.mktemp("two")
    with Checkpoints(workdir, keep=2) as checkpoints:
        for step in (4, 8):
            checkpoints.save(make_state(step), {"at": step}, {})
    return workdir


@pytest.fixture
def workdir(saved, tmp_path):
    """With what is set aside in a copy's place."""
    (tmp_path / "checkpoints").mkdir()
    for step in ("4", "8"):
        (tmp_path / "checkpoints" / step).symlink_to(saved / "checkpoints" / step)
    return tmp_path


def resume(workdir):
    with Checkpoints(workdir) as checkpoints:
        return checkpoints.restore_newest(make_state(0), lambda step, run: None)


@pytest.mark.parametrize("read", range(len(READS)), ids=READS)
def test_all_leave_what_another_process_finds_damaged(read, workdir, other, capsys):
    other(*[WELL] * read, DAMAGED)
    assert resume(workdir).step == 4
    assert (workdir / "damaged" / "8").exists()
    assert "is damaged (another process could not read it)" in capsys.readouterr().out


@pytest.mark.parametrize("read", range(len(READS)), ids=READS)
def test_all_end_where_another_process_cannot_read(read, workdir, other):
    asked = other(*[WELL] * read, UNREADABLE)
    with pytest.raises(InputError, match=r"checkpoints/8 could not be read by another process"):
        resume(workdir)
    assert len(asked) == read + 1
    assert not (workdir / "damaged").exists()


def test_every_part_of_a_read_is_agreed_upon(workdir, other):
    asked = other()
    assert resume(workdir).run == {"at": 8}
    assert asked == [WELL] * len(READS)
