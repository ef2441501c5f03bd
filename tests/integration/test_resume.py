"""A run that was interrupted, killed or continued ends as if it had run straight."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import jax
import numpy as np
import pytest
from integration import corpus
from ml_collections import ConfigDict

from bert_jax.data import prepare
from bert_jax.errors import InputError
from bert_jax.tasks import finetune, pretrain, saved_model, tuning
from bert_jax.tasks.classify import Classify
from bert_jax.training.checkpoint import BEST_METRIC, Checkpoints, has_checkpoint
from bert_jax.training.logging import RunLog, read_metrics
from bert_jax.training.paths import map_paths
from bert_jax.training.report import TIMING
from bert_jax.training.state import TrainState
from bert_jax.workdir import locked

ROOT = Path(__file__).parents[2]


class Interrupted(BaseException):
    """As Ctrl-C would be."""


def interrupt_at(monkeypatch, step):
    """Ends the next run once it has shown the progress of `step`."""
    show = RunLog.progress

    def progress(self, now, shown):
        show(self, now, shown)
        if now == step:
            raise Interrupted

    monkeypatch.setattr(RunLog, "progress", progress)


def first_steps(monkeypatch, task):
    """A list that gets the step that each coming run of the task starts from."""
    found = []
    train = task.train

    def spy(state, *args, **options):
        found.append(int(state.step))
        return train(state, *args, **options)

    monkeypatch.setattr(task, "train", spy)
    return found


def points(workdir):
    return [
        {name: value for name, value in point.items() if name not in TIMING}
        for point in read_metrics(workdir)
    ]


def newest(workdir):
    """Every parameter of the newest checkpoint by path, and its step."""
    found = {}
    with Checkpoints(workdir) as checkpoints:
        step = checkpoints.latest()
        params = checkpoints.restore_params(step, checkpoints.read_record(step).param_shapes())
    map_paths(lambda path, leaf: found.update({path: np.asarray(leaf)}), params)
    return step, found


def assert_same_run(workdir, straight):
    assert points(workdir) == points(straight)
    (step, params), (wanted_step, wanted) = newest(workdir), newest(straight)
    assert step == wanted_step
    assert params.keys() == wanted.keys()
    for path, value in params.items():
        np.testing.assert_array_equal(value, wanted[path], err_msg=path)


def test_the_straight_run_logs_what_is_compared(pretrained):
    logged = [(point["step"], point["split"]) for point in points(pretrained)]
    assert logged == [
        *((3, "train"), (6, "train"), (6, "heldout")),
        *((9, "train"), (12, "train"), (12, "heldout")),
    ]
    losses = [point["mlm_loss"] for point in points(pretrained)]
    assert len(set(losses)) == len(losses)


@pytest.mark.parametrize(("stop", "start"), [(2, 0), (7, 4)])
def test_pretraining_interrupted(stop, start, data, pretrained, tmp_path, monkeypatch):
    # Before any checkpoint; after an evaluation that follows one and is done again.
    config = corpus.pretrain_config(data)
    with monkeypatch.context() as patch:
        interrupt_at(patch, stop)
        with pytest.raises(Interrupted):
            pretrain.run(config, tmp_path)
    starts = first_steps(monkeypatch, pretrain)
    last = pretrain.run(config, tmp_path)
    assert starts == [start]
    assert_same_run(tmp_path, pretrained)
    assert last["mlm_loss"] == points(pretrained)[-1]["mlm_loss"]


@pytest.mark.slow
def test_continued_on_another_mesh_in_other_microbatches_and_computed_again(
    data, tmp_path, monkeypatch
):
    config = corpus.pretrain_config(data)
    config.model.update(dropout=0.0, attention_dropout=0.0)  # microbatches draw their own
    straight = tmp_path / "straight"
    pretrain.run(config, straight)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 7)
        with pytest.raises(Interrupted):
            pretrain.run(config, tmp_path / "moved")
    config.update(microbatches=2)
    config.mesh.update(data=2, fsdp=2, tensor=2)
    config.model.update(remat="full", scan_layers=True)
    starts = first_steps(monkeypatch, pretrain)
    pretrain.run(config, tmp_path / "moved")
    assert starts == [4]
    found, wanted = points(tmp_path / "moved"), points(straight)
    assert [point["step"] for point in found] == [point["step"] for point in wanted]
    for point, other in zip(found, wanted, strict=True):
        for name in ("mlm_loss", "next_loss"):
            assert point[name] == pytest.approx(other[name], rel=1e-5), (name, point["step"])


KILLED_WHILE_SAVING = """
    import json, os, signal, sys, time
    import jax
    jax.config.update("jax_num_cpu_devices", 8)
    from bert_jax.tasks import pretrain
    from bert_jax.training.checkpoint import Checkpoints, has_checkpoint
    config, workdir = json.loads(sys.argv[1]), sys.argv[2]
    save = Checkpoints.save

    def killed(self, state, run, metrics):
        # Step 4 must be on disk; step 8 is on its way when the end comes.
        while int(state.step) == 8 and not has_checkpoint(workdir):
            time.sleep(0.01)
        save(self, state, run, metrics)
        if int(state.step) == 8:
            os.kill(os.getpid(), signal.SIGKILL)

    Checkpoints.save = killed
    pretrain.run(config, workdir)
"""


@pytest.mark.slow
def test_pretraining_killed_while_it_saves(data, pretrained, tmp_path, monkeypatch):
    config = corpus.pretrain_config(data)
    killed = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED_WHILE_SAVING), config.to_json(), tmp_path],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert killed.returncode == -9, killed.stderr
    assert has_checkpoint(tmp_path)
    # A killed process may leave half a line too.
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "split": "tr')
    starts = first_steps(monkeypatch, pretrain)
    pretrain.run(config, tmp_path)
    assert starts[0] in (4, 8)
    assert_same_run(tmp_path, pretrained)


def test_a_finished_pretraining_is_left_alone(data, pretrained, monkeypatch):
    before = (pretrained / "metrics.jsonl").read_bytes()
    starts = first_steps(monkeypatch, pretrain)
    assert pretrain.run(corpus.pretrain_config(data), pretrained) == read_metrics(pretrained)[-1]
    assert starts == []  # nothing was loaded or compiled
    assert (pretrained / "metrics.jsonl").read_bytes() == before


def test_a_finished_pretraining_without_its_log_is_refused(data, pretrained, tmp_path):
    copy_run(pretrained / "checkpoints", tmp_path / "checkpoints")
    with pytest.raises(InputError, match=r"metrics\.jsonl is missing"):
        pretrain.run(corpus.pretrain_config(data), tmp_path)


@pytest.fixture(scope="module")
def finetuned(pretrained, reviews_path, tmp_path_factory):
    directory = tmp_path_factory.mktemp("finetuned")
    finetune.run(corpus.finetune_config(reviews_path, pretrained), directory)
    return directory


def test_fine_tuning_interrupted_between_evaluations(
    pretrained, reviews_path, finetuned, tmp_path, monkeypatch
):
    evaluations = [p["step"] for p in points(finetuned) if p["split"] == "validation"]
    start = evaluations[2]  # in the middle of an epoch
    stop = start + 2
    assert stop < evaluations[3]
    config = corpus.finetune_config(reviews_path, pretrained)
    with monkeypatch.context() as patch:
        interrupt_at(patch, stop)
        with pytest.raises(Interrupted):
            finetune.run(config, tmp_path)
    starts = first_steps(monkeypatch, tuning)
    best = finetune.run(config, tmp_path)
    assert starts == [start]
    assert_same_run(tmp_path, finetuned)
    assert best == finetune.run(config, finetuned)


@pytest.mark.slow
def test_fine_tuning_of_parts_goes_on_where_it_was(pretrained, reviews_path, tmp_path, monkeypatch):
    config = corpus.finetune_config(reviews_path, pretrained)
    config.update(freeze_embeddings=True, layer_decay=0.5, head_steps=4)
    config.update(epochs=1, evals_per_epoch=5, patience=0, log_every=100)
    straight, parted = tmp_path / "straight", tmp_path / "parted"
    finetune.run(config, straight)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 3)  # while the head alone moves
        with pytest.raises(Interrupted):
            finetune.run(config, parted)
    starts = first_steps(monkeypatch, tuning)
    finetune.run(config, parted)
    assert starts == [2]
    assert_same_run(parted, straight)
    before, after = newest(pretrained)[1], newest(parted)[1]
    for part, has_moved in (("embeddings/token", False), ("layer_0/attention/query/kernel", True)):
        path = f"encoder/{part}"
        assert (after[path] != before[path]).any() == has_moved, path


@pytest.mark.slow
def test_fine_tuning_goes_on_counting_towards_its_early_end(
    pretrained, reviews_path, tmp_path, monkeypatch
):
    config = corpus.finetune_config(reviews_path, pretrained)
    config.patience = 2
    curve = iter([0.5, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    monkeypatch.setattr(Classify, "score", lambda *_: {"accuracy": next(curve)})
    with monkeypatch.context() as patch:
        # The third evaluation is the first that is not better; the run ends a step after it.
        save, saved = Checkpoints.save, []

        def note(self, state, run, metrics):
            save(self, state, run, metrics)
            saved.append(int(state.step))
            if len(saved) == 3:
                interrupt_at(patch, saved[-1] + 1)

        patch.setattr(Checkpoints, "save", note)
        with pytest.raises(Interrupted):
            finetune.run(config, tmp_path)
    starts = first_steps(monkeypatch, tuning)
    assert finetune.run(config, tmp_path)["accuracy"] == 0.9
    values = [p["accuracy"] for p in points(tmp_path) if p["split"] == "validation"]
    assert values == [0.5, 0.9, 0.8, 0.7]
    assert starts == [saved[-1]]
    # A run that has ended early does not begin again.
    assert finetune.run(config, tmp_path)["accuracy"] == 0.9
    assert next(curve) == 0.6
    assert len(starts) == 1


def copy_run(source, target):
    shutil.copytree(source, target, dirs_exist_ok=True)
    return target


def continued(pretrained, tmp_path, **changed):
    """A copy of the run whose config says that it began so: only the position knows better."""
    workdir = copy_run(pretrained, tmp_path / "run")
    saved = json.loads((workdir / "config.json").read_text())
    (workdir / "config.json").write_text(json.dumps(saved | changed))
    return workdir


def test_other_rows_under_a_run_are_refused(documents_path, data, pretrained, tmp_path):
    other = tmp_path / "other"
    config = corpus.prepare_config(documents_path)
    config.seed = 1
    prepare.run(config, other)
    workdir = continued(pretrained, tmp_path, data=str(other))
    with pytest.raises(InputError, match=r"rows of .*other are not those this run began with"):
        pretrain.run(corpus.pretrain_config(other), workdir)


def test_another_batch_size_under_a_run_is_refused(data, pretrained, tmp_path):
    config = corpus.pretrain_config(data)
    config.batch_size = 16
    message = (
        r"checkpoint of step 12 has read 96 samples and a batch size of 16 would have read 192"
    )
    with pytest.raises(InputError, match=message):
        pretrain.run(config, continued(pretrained, tmp_path, batch_size=16))


def test_the_same_rows_elsewhere_are_those_of_the_run(data, pretrained, tmp_path):
    config = corpus.pretrain_config(copy_run(data, tmp_path / "copied"))
    assert (
        pretrain.run(config, copy_run(pretrained, tmp_path / "run"))
        == (read_metrics(pretrained)[-1])
    )


def test_other_rows_under_a_fine_tuning_are_refused(finetuned, pretrained, tmp_path):
    other = corpus.write_reviews(tmp_path / "reviews.csv", corpus.reviews(200, seed=1))
    workdir = copy_run(finetuned, tmp_path / "run")
    saved = json.loads((workdir / "config.json").read_text())
    saved["data"]["train"] = str(other)
    (workdir / "config.json").write_text(json.dumps(saved))
    with pytest.raises(InputError, match=r"was begun with other rows, labels or"):
        finetune.run(corpus.finetune_config(other, pretrained), workdir)


def test_another_checkpoint_under_a_fine_tuning_is_refused(
    finetuned, pretrained, reviews_path, tmp_path
):
    earlier = copy_run(pretrained, tmp_path / "pretrained")
    shutil.rmtree(earlier / "checkpoints" / "12")
    workdir = copy_run(finetuned, tmp_path / "run")
    saved = json.loads((workdir / "config.json").read_text())
    (workdir / "config.json").write_text(json.dumps(saved | {"init_from": str(earlier)}))
    with pytest.raises(InputError, match=r"from another config\.init_from checkpoint"):
        finetune.run(corpus.finetune_config(reviews_path, earlier), workdir)


@pytest.fixture(scope="module")
def begun_from_nothing(data, tmp_path_factory):
    """The workdir and config of an epoch, with a row that the hash puts into the test part."""
    folder = tmp_path_factory.mktemp("nothing")
    copy_run(data / "tokenizer", folder / "tokenizer")
    rows = [*corpus.reviews(60), (" 服！", "稀")]
    path = corpus.write_reviews(folder / "rows.csv", rows)
    config = corpus.finetune_config(path, "none", str(folder / "tokenizer"))
    config.update(epochs=1, evals_per_epoch=1)
    finetune.run(config, folder / "run")
    return folder, config


def test_another_label_of_the_test_part_under_a_fine_tuning_is_refused(begun_from_nothing):
    # Its class would be that of another output.
    folder, config = begun_from_nothing
    before = Path(config.data.train).read_text("utf-8")
    Path(config.data.train).write_text(before.replace("稀", "a"), "utf-8")
    try:
        with pytest.raises(InputError, match=r"begun with other rows, labels or another tokenizer"):
            finetune.run(config, folder / "run")
    finally:
        Path(config.data.train).write_text(before, "utf-8")
    finetune.run(config, folder / "run")


def test_another_tokenizer_under_a_fine_tuning_from_nothing_is_refused(begun_from_nothing):
    folder, config = begun_from_nothing
    vocabulary = folder / "tokenizer" / "vocab.txt"
    before = vocabulary.read_text("utf-8")
    *pieces, one, other = before.split()
    vocabulary.write_text("\n".join([*pieces, other, one, ""]), "utf-8")
    try:
        with pytest.raises(InputError, match=r"begun with other rows, labels or another tokenizer"):
            finetune.run(config, folder / "run")
    finally:
        vocabulary.write_text(before, "utf-8")


@pytest.mark.parametrize("is_finished", [True, False])
def test_a_fine_tuning_without_its_log_is_refused(is_finished, begun_from_nothing, tmp_path):
    # It would have forgotten its validations.
    folder, config = begun_from_nothing
    workdir = copy_run(folder / "run", tmp_path / "run")
    (workdir / "metrics.jsonl").unlink()
    if not is_finished:
        config = ConfigDict(config.to_dict() | {"epochs": 2})
        told = json.loads((workdir / "config.json").read_text())
        (workdir / "config.json").write_text(json.dumps(told | {"epochs": 2}))
    for _ in range(2):  # nor has the first refusal left one
        with pytest.raises(InputError, match=r"metrics\.jsonl is missing, which says what"):
            finetune.run(config, workdir)


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [("optimizer", "learning_rate", 0.5), ("model", "dropout", 0.2), ("", "seed", 9)],
)
def test_another_config_in_a_workdir_is_refused(section, field, value, data, pretrained):
    config = corpus.pretrain_config(data)
    (config[section] if section else config)[field] = value
    before = (pretrained / "config.json").read_bytes()
    name = f"{section}.{field}" if section else field
    with pytest.raises(InputError, match=rf"config\.{name}=.*{value}: use a new --workdir"):
        pretrain.run(config, pretrained)
    assert (pretrained / "config.json").read_bytes() == before


def test_a_checkpoint_of_another_architecture_is_refused(data, pretrained, tmp_path):
    copy_run(pretrained / "checkpoints", tmp_path / "checkpoints")
    config = corpus.pretrain_config(data)
    config.model.feed_forward = 96
    config.steps = 16  # a finished run would not be loaded
    with pytest.raises(InputError) as caught:
        pretrain.run(config, tmp_path)
    path = "encoder/layer_0/feed_forward/intermediate/bias is 64 there and 96 here"
    assert f"is of another architecture: {path};" in str(caught.value)


def test_a_damaged_checkpoint_is_set_aside(data, pretrained, tmp_path, monkeypatch, capsys):
    workdir = copy_run(pretrained, tmp_path)
    for path in (workdir / "checkpoints" / "12").rglob("*"):
        if path.is_file() and path.parts[-1] != "_CHECKPOINT_METADATA":
            path.write_bytes(b"")
    with pytest.raises(InputError, match=r"checkpoints/12 is damaged .*: run its training again"):
        saved_model.load(workdir)
    starts = first_steps(monkeypatch, pretrain)
    pretrain.run(corpus.pretrain_config(data), workdir)
    assert starts == [8]
    line = rf"^checkpoint 12 of {workdir} is damaged \(.*\): kept in damaged/12, going on from"
    assert re.search(line + " step 8$", capsys.readouterr().out, re.MULTILINE)
    assert (workdir / "damaged" / "12" / "_CHECKPOINT_METADATA").is_file()
    assert_same_run(workdir, pretrained)


@pytest.mark.parametrize(("task", "step"), [("pretrain", 2), ("classify", 1)])
def test_a_reader_takes_the_newest_of_a_pretraining_and_else_the_best(
    task, step, pretrained, tmp_path
):
    with Checkpoints(pretrained) as checkpoints:
        run = checkpoints.read_record(12).run
    run["config"]["task"] = task
    key, zero = jax.random.key(0), jax.numpy.zeros(())
    with Checkpoints(tmp_path, keep=2, best_metric=BEST_METRIC) as checkpoints:
        for number, metric in ((1, 0.9), (2, 0.1)):
            state = TrainState(jax.numpy.int32(number), {"a": jax.numpy.ones(3)}, (), key, zero)
            checkpoints.save(state, run, {BEST_METRIC: metric})
    assert saved_model.load(tmp_path).step == step


def test_a_refused_run_changes_nothing(documents_path, data, pretrained, tmp_path):
    # Where the rows lie may change, and so may when something is logged; the rows may not.
    other = tmp_path / "other"
    config = corpus.prepare_config(documents_path)
    config.seed = 1
    prepare.run(config, other)
    workdir = copy_run(pretrained, tmp_path / "run")
    before = {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()}
    config = corpus.pretrain_config(other)
    config.log_every = 2
    with pytest.raises(InputError, match="are not those this run began with"):
        pretrain.run(config, workdir)
    assert {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("task", ["prepare", "pretrain", "finetune"])
def test_a_workdir_in_use_is_refused(
    task, documents_path, data, pretrained, reviews_path, tmp_path
):
    stage, config = {
        "prepare": (prepare, corpus.prepare_config(documents_path)),
        "pretrain": (pretrain, corpus.pretrain_config(data)),
        "finetune": (finetune, corpus.finetune_config(reviews_path, pretrained)),
    }[task]
    message = rf"run is in use by process {os.getpid()} on {socket.gethostname()} since 20"
    with locked(tmp_path / "run"), pytest.raises(InputError, match=message):
        stage.run(config, tmp_path / "run")
    assert not any((tmp_path / "run").iterdir())  # the lock is gone too


def test_eight_devices_are_here():
    # The kill test compares with a subprocess of eight devices.
    assert jax.device_count() == 8
