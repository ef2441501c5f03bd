"""Checkpoints of a small state: whatever happens to the disk is said, or is nothing."""

import errno
import json
import shutil
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from orbax.checkpoint import checkpoint_manager

from bert_jax.errors import InputError
from bert_jax.tasks import saved_model
from bert_jax.training import checkpoint, record
from bert_jax.training.checkpoint import Checkpoints, has_checkpoint
from bert_jax.training.record import by_path
from bert_jax.training.state import TrainState

RUN = {"config": {"task": "pretrain"}, "position": 3}


def make_state(step, width=12, scale=1.0):
    """A state whose arrays all tell of the step; the large one has a file of its own."""
    params = {
        "table": scale * jnp.arange(400.0 * width).reshape(400, width) + step,
        "norm": {"scale": jnp.ones(32), "half": jnp.full(5, step, jnp.bfloat16)},
    }
    moments = optax.adam(1e-3).init(params)
    return TrainState(jnp.int32(step), params, moments, jax.random.key(step), jnp.zeros(()))


def save(workdir, *steps, metrics=None, scale=1.0, **options):
    """A checkpoint of each step, one after the other."""
    with Checkpoints(workdir, **options) as checkpoints:
        for step in steps:
            checkpoints.save(make_state(step, scale=scale), RUN, (metrics or {}).get(step, {}))
    return workdir


def resume(workdir, like=None, check=lambda step, run: None):
    with Checkpoints(workdir) as checkpoints:
        return checkpoints.restore_newest(like or make_state(0), check)


def steps(workdir):
    return sorted(int(p.name) for p in (workdir / "checkpoints").iterdir())


def assert_equal(state, wanted):
    found, wanted = by_path(state), by_path(wanted)
    assert found.keys() == wanted.keys()
    for path, leaf in found.items():
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            assert leaf == wanted[path]
        else:
            assert leaf.dtype == wanted[path].dtype
            assert np.asarray(leaf).tobytes() == np.asarray(wanted[path]).tobytes(), path


def flip(content, at):
    return content[:at] + bytes([content[at] ^ 16]) + content[at + 1 :]


DAMAGES = {
    "truncated to nothing": lambda content: b"",
    "truncated to half": lambda content: content[: len(content) // 2],
    "deleted": lambda content: None,
    "a byte flipped in front": lambda content: flip(content, len(content) // 10),
    "a byte flipped amid": lambda content: flip(content, len(content) // 2),
    "a byte flipped at the end": lambda content: flip(content, len(content) - 1),
}


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Checkpoints of the steps 4 and 8."""
    return save(tmp_path_factory.mktemp("two"), 4, 8, keep=2)


def test_nothing_saved_is_nothing_restored(tmp_path):
    assert resume(tmp_path) is None
    assert not any(tmp_path.iterdir())


SLOW = ("truncated to nothing", "deleted", "a byte flipped in front", "a byte flipped at the end")


@pytest.mark.parametrize(
    "damage", [pytest.param(d, marks=[pytest.mark.slow] if d in SLOW else []) for d in DAMAGES]
)
def test_any_damage_is_noticed_or_does_no_harm(damage, two, tmp_path, capsys):
    files = [p.relative_to(two) for p in sorted(two.glob("checkpoints/8/**/*")) if p.is_file()]
    outcomes = set()
    for file in files:
        workdir = shutil.copytree(two, tmp_path / "run")
        content = DAMAGES[damage]((two / file).read_bytes() or b"\0")
        if content is None:
            (workdir / file).unlink()
        else:
            (workdir / file).write_bytes(content)
        restored = resume(workdir)
        said = capsys.readouterr().out
        outcomes.add(restored.step)
        assert_equal(restored.state, make_state(restored.step))
        assert restored.run == RUN
        if restored.step == 4:
            assert said.startswith(f"checkpoint 8 of {workdir} is damaged ("), file
            assert said.endswith("): kept in damaged/8, going on from step 4\n"), file
            assert said.count("\n") == 1
            assert (workdir / "damaged" / "8").is_dir()
            assert steps(workdir) == [4]
        else:
            assert said == "", file
        shutil.rmtree(workdir)
    assert len(files) > 15
    assert outcomes == {4, 8}  # some files Orbax writes and does not need


def replaced(monkeypatch, part, change):
    """Orbax reads an array otherwise than it was written, and finds nothing wrong."""
    load = checkpoint.ocp.load_checkpointables

    def changed(path, like):
        parts = load(path, like)
        if path.name == "8" and part in parts:
            parts[part] = change(parts[part])
        return parts

    monkeypatch.setattr(checkpoint.ocp, "load_checkpointables", changed)


def one_bit(tree):
    leaves, structure = jax.tree.flatten(tree)
    word = leaves[-1].view(jnp.uint32) if leaves[-1].ndim else leaves[-1]
    return jax.tree.unflatten(structure, [*leaves[:-1], (word ^ 1).view(leaves[-1].dtype)])


def test_a_wrong_bit_that_orbax_lets_through(two, tmp_path, monkeypatch, capsys):
    workdir = shutil.copytree(two, tmp_path / "run")
    replaced(monkeypatch, "params", one_bit)
    with Checkpoints(workdir) as checkpoints:
        with pytest.raises(
            InputError, match=r"8 is damaged \(the checksum of params/table differs"
        ):
            checkpoints.restore_params(8, make_state(0).params)
        with pytest.raises(InputError, match=r"the checksum of params/table differs"):
            checkpoints.restore(8, make_state(0))
    assert steps(workdir) == [4, 8]  # a reader moves nothing
    assert resume(workdir).step == 4
    assert "(the checksum of params/table differs)" in capsys.readouterr().out


def test_the_key_and_the_moments_have_checksums_too(two, tmp_path, monkeypatch):
    for number, part in enumerate(("step", "key", "optimizer")):
        workdir = shutil.copytree(two, tmp_path / str(number))
        other = make_state(7)
        parts = {"step": other.step, "key": other.key, "optimizer": one_bit(other.optimizer)}
        with monkeypatch.context() as patch:
            replaced(
                patch,
                "rest",
                lambda saved, part=part, parts=parts: {**saved, part: parts[part]},
            )
            assert resume(workdir).step == 4, part


def test_restored_on_another_mesh_than_saved(two):
    mesh = Mesh(np.asarray(jax.devices()).reshape(2, 4), ("x", "y"))

    def place(leaf):
        spec = ("x", "y") if leaf.shape == (400, 12) else ()
        return jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=NamedSharding(mesh, PartitionSpec(*spec))
        )

    with Checkpoints(two) as checkpoints:
        state = checkpoints.restore(8, jax.tree.map(place, make_state(0)))
    assert len(state.params["table"].sharding.device_set) == 8
    assert_equal(state, make_state(8))


def test_damage_twice_goes_back_twice_and_keeps_both(tmp_path, capsys):
    workdir = save(tmp_path, 2, 4, 6, keep=3)
    for _ in range(2):
        for step in (4, 6):
            (workdir / "checkpoints" / str(step) / "params" / "manifest.ocdbt").write_bytes(b"")
        assert resume(workdir).step == 2
        save(workdir, 4, 6, keep=3)
    said = capsys.readouterr().out.splitlines()
    assert [line.rpartition("kept in ")[2] for line in said] == [
        *("damaged/6, going on from step 2", "damaged/4, going on from step 2"),
        *("damaged/6.1, going on from step 2", "damaged/4.1, going on from step 2"),
    ]
    assert_equal(resume(workdir).state, make_state(6))


def test_nothing_is_begun_anew_where_all_is_damaged(two, tmp_path):
    workdir = shutil.copytree(two, tmp_path / "run")
    for manifest in workdir.glob("checkpoints/*/params/manifest.ocdbt"):
        manifest.unlink()
    with pytest.raises(
        InputError, match=r"every checkpoint in .* is damaged: 8 \(.*\), 4 \(.*anew"
    ):
        resume(workdir)
    assert steps(workdir) == [4, 8]


def test_what_was_never_finished_does_not_count(two, tmp_path, capsys):
    workdir = shutil.copytree(two, tmp_path / "run")
    half = shutil.copytree(workdir / "checkpoints" / "8", workdir / "checkpoints" / "12")
    for mark in ("_CHECKPOINT_METADATA", "commit_success.txt"):
        (half / mark).unlink()
    shutil.copytree(half, workdir / "checkpoints" / "16.orbax-checkpoint-tmp")
    with Checkpoints(workdir) as checkpoints:
        assert checkpoints.latest() == 8
    assert resume(workdir).step == 8
    assert capsys.readouterr().out == (
        f"checkpoint 12 of {workdir} was never finished: kept in damaged/12\n"
    )
    assert steps(workdir) == [4, 8]
    assert_equal(resume(save(workdir, 12, 16, keep=4)).state, make_state(16))
    # Alone it is as if there were none.
    shutil.copytree(workdir / "damaged" / "12", tmp_path / "alone" / "checkpoints" / "12")
    assert not has_checkpoint(tmp_path / "alone")
    assert resume(tmp_path / "alone") is None


def test_any_flipped_byte_of_the_record_is_noticed():
    arrays = {"params/a": record.ArrayRecord((2, 3), "float32", 7)}
    saved = record.Record({**RUN, "text": "书"}, {"m": 0.5}, arrays)
    content = record.encode(saved)
    assert record.decode(content) == saved
    for at in range(len(content)):
        for bit in range(8):
            changed = content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :]
            try:
                found = record.decode(changed)
            except record.Damaged:
                continue
            assert found == saved  # another blank, or a capital E in a number


def rewrite_record(monkeypatch, change):
    encode = record.encode
    monkeypatch.setattr(record, "encode", lambda saved: change(encode(saved)))


def old_format(content):
    return json.dumps(json.loads(content)["run"]).encode()


def later_format(content):
    return content  # the number is patched


@pytest.mark.parametrize("change", [old_format, later_format])
def test_another_format_is_no_damage(change, tmp_path, monkeypatch):
    save(tmp_path, 4)
    with monkeypatch.context() as patch:
        patch.setattr(record, "FORMAT", record.FORMAT + 1)
        rewrite_record(patch, change)
        save(tmp_path, 8, keep=2)
    message = r"checkpoints/8 was written by another version of bert_jax: go on with that version"
    for read in (resume, saved_model.load):
        with pytest.raises(InputError, match=message):
            read(tmp_path)
    assert steps(tmp_path) == [4, 8]


def test_another_architecture_or_run_is_no_damage(two, tmp_path):
    workdir = shutil.copytree(two, tmp_path / "run")
    wide, like = make_state(0, width=13), make_state(0)
    with pytest.raises(
        InputError, match=r"table is 400 x 12 there and 400 x 13 here; set config\.m"
    ):
        resume(workdir, wide)
    halves = like._replace(params=jax.tree.map(lambda a: a.astype(jnp.bfloat16), like.params))
    with pytest.raises(InputError, match=r"scale is 32 float32 there and 32 bfloat16 here"):
        resume(workdir, halves)
    message = r"optimizer/0/count is a scalar there and missing here; set config\.optimizer"
    with pytest.raises(InputError, match=message):
        resume(workdir, like._replace(optimizer=optax.trace(0.9).init(like.params)))

    def refuse(step, run):
        raise InputError(f"{step} {run['position']} is of another dataset")

    with pytest.raises(InputError, match="8 3 is of another dataset"):
        resume(workdir, check=refuse)
    assert steps(workdir) == [4, 8]


@pytest.mark.parametrize(
    ("cause", "raised"),
    [
        (KeyboardInterrupt(), KeyboardInterrupt),
        (MemoryError(), MemoryError),
        (
            jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory"),
            jax.errors.JaxRuntimeError,
        ),
        (PermissionError(errno.EACCES, "Permission denied"), InputError),
        (OSError(errno.EMFILE, "Too many open files"), InputError),
    ],
)
def test_what_the_machine_lacks_is_no_damage(cause, raised, two, tmp_path, monkeypatch):
    workdir = shutil.copytree(two, tmp_path / "run")

    def load(path, like):
        raise KeyError("Orbax wraps everything") from cause

    monkeypatch.setattr(checkpoint.ocp, "load_checkpointables", load)
    with pytest.raises(raised, match="cannot be read now" if raised is InputError else None):
        resume(workdir)
    assert steps(workdir) == [4, 8]


def test_the_newest_and_the_best_are_kept(tmp_path):
    # Where nothing was measured nothing is best, and so it is where the number is none.
    metrics = {2: {"m": float("nan")}, 4: {"m": 0.9}, 8: {"m": 0.7}, 10: {"n": 1.0}}
    options = {"keep": 2, "best_metric": "m"}
    save(tmp_path, 2, 4, 6, metrics=metrics, **options)
    assert steps(tmp_path) == [4, 6]
    # Another process, which reads what the best was.
    save(tmp_path, 8, 10, 12, metrics=metrics, **options)
    assert steps(tmp_path) == [4, 10, 12]
    with Checkpoints(tmp_path, best_metric="m") as checkpoints:
        assert (checkpoints.best(), checkpoints.latest()) == (4, 12)
    # Of equals the latest; and without the name of a metric only the newest.
    save(tmp_path, 14, 16, 18, metrics={14: {"m": 0.9}}, **options)
    assert steps(tmp_path) == [14, 16, 18]
    save(tmp_path, 20, keep=2)
    assert steps(tmp_path) == [18, 20]
    with Checkpoints(tmp_path, best_metric="m") as checkpoints:
        assert checkpoints.best() == 20


def test_the_best_that_cannot_be_read_is_neither_deleted_nor_passed_over(tmp_path):
    options = {"keep": 1, "best_metric": "m"}
    save(tmp_path, 2, metrics={2: {"m": 0.9}}, **options)
    (tmp_path / "checkpoints" / "2" / "run" / "manifest.ocdbt").unlink()
    save(tmp_path, 4, 6, metrics={4: {"m": 0.1}, 6: {"m": 0.2}}, **options)
    assert steps(tmp_path) == [2, 6]
    with (
        Checkpoints(tmp_path, best_metric="m") as checkpoints,
        pytest.raises(InputError, match="checkpoints/2 is damaged"),
    ):
        checkpoints.best()


PARTIAL = ".orbax-checkpoint-tmp"
FULL = r"cannot be written to .*checkpoints \(the disk is full\): free space and run the command"


def test_a_disk_that_is_full(tmp_path):
    """Of a real file system of two megabytes, five of the checkpoints would need more."""
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", tmp_path],
        capture_output=True,
        check=False,
    ).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        with pytest.raises(InputError, match=FULL) as caught:
            save(tmp_path, *range(1, 60), keep=99, scale=np.pi)
        newest = max(steps(tmp_path))
        assert newest > 1
        assert str(caught.value).startswith(f"checkpoint {newest + 1} cannot be written")
        assert str(caught.value).endswith(f"it continues from step {newest}.")
        # No name is left but those of finished ones, and they are whole.
        assert_equal(resume(tmp_path).state, make_state(newest, scale=np.pi))
        shutil.rmtree(tmp_path / "checkpoints" / "1")
        save(tmp_path, newest + 1, keep=99)
        assert_equal(resume(tmp_path).state, make_state(newest + 1))
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def no_space():
    raise ValueError("Failed writing: No space left on device [os_error_code='28']")


@pytest.mark.parametrize("at", ["_finalize", "close"])
def test_a_save_that_fails_in_the_background(at, two, tmp_path, monkeypatch):
    """Without a real disk: the thread that ends a save raises, or the closing does."""
    workdir = shutil.copytree(two, tmp_path / "run")
    owner = checkpoint_manager.CheckpointManager

    def fail(self, *_):
        (workdir / "checkpoints" / "12").rename(workdir / "checkpoints" / f"12{PARTIAL}")
        no_space()

    finish = owner._wait_for_checkpointers

    def fail_late(self):
        finish(self)
        fail(self)

    if at == "close":
        monkeypatch.setattr(owner, "close", lambda self: (self.wait_until_finished(), fail(self)))
    else:
        monkeypatch.setattr(owner, "_wait_for_checkpointers", fail_late)
    later = (16, 20) if at == "_finalize" else ()
    message = rf"checkpoint 12 {FULL} again; it continues from step 8\."
    with pytest.raises(InputError, match=message):
        save(workdir, 12, *later, keep=9)
    assert steps(workdir) == [4, 8]


class Writes:
    """A clock that goes when somebody sleeps, and at these times a directory is written into."""

    def __init__(self, path, at):
        self._path, self._at, self._now = path, list(at), 0.0

    def monotonic(self):
        return self._now

    def sleep(self, seconds):
        self._now += seconds
        while self._at and self._at[0] <= self._now:
            self._at.pop(0)
            self._path.mkdir(parents=True, exist_ok=True)
            (self._path / "late").write_bytes(b"late")


@pytest.mark.parametrize(
    ("at", "is_endless"), [([0.1, 0.4, 0.7], False), (np.arange(0.05, 60, 0.05), True)]
)
def test_writes_that_go_on_after_a_failure_leave_nothing(at, is_endless, tmp_path, monkeypatch):
    partial = tmp_path / "checkpoints" / f"12{PARTIAL}" / "params"
    partial.mkdir(parents=True)
    writes = Writes(partial, at)
    monkeypatch.setattr(checkpoint, "time", writes)
    with pytest.raises(InputError, match="the disk is full"), Checkpoints(tmp_path)._writing():
        no_space()
    writes.sleep(max(0.0, 0.7 - writes.monotonic()))
    assert partial.exists() == is_endless  # which is given up


def interrupted_run(workdir, monkeypatch):
    with Checkpoints(workdir) as checkpoints:
        checkpoints.save(make_state(4), RUN, {})
        monkeypatch.setattr(
            checkpoint.ocp.training.Checkpointer, "close", lambda self: (self.wait(), no_space())
        )
        raise KeyboardInterrupt


def test_a_full_disk_beside_what_ends_the_run_is_said_too(tmp_path, monkeypatch, capsys):
    with pytest.raises(KeyboardInterrupt):
        interrupted_run(tmp_path, monkeypatch)
    assert "error: checkpoint 4 cannot be written" in capsys.readouterr().err
