"""A pretraining that begins from another model: what it takes from it, and what it needs later."""

import shutil

import pytest
from integration import corpus
from integration.test_resume import first_steps, points

from bert_jax import workdir as wd
from bert_jax.data import prepare
from bert_jax.errors import InputError
from bert_jax.tasks import pretrain, saved_model
from bert_jax.tasks.start import load_modules
from bert_jax.training import record
from bert_jax.training.checkpoint import Checkpoints


@pytest.fixture(scope="module")
def begun(data, pretrained, tmp_path_factory):
    """The directory that a run began from, the run's config and its workdir."""
    root = tmp_path_factory.mktemp("begun")
    origin = shutil.copytree(pretrained, root / "origin")
    config = corpus.pretrain_config(data)
    config.init_from = str(origin)
    config.model.width = 64  # the sizes are the origin's
    pretrain.run(config, root / "run")
    shutil.rmtree(origin)
    return origin, config, root / "run"


def test_a_begun_run_needs_its_origin_no_more(begun, tmp_path, monkeypatch, capsys):
    origin, config, straight = begun
    workdir = shutil.copytree(straight, tmp_path / "run")
    shutil.rmtree(workdir / "checkpoints" / "12")
    starts = first_steps(monkeypatch, pretrain)
    pretrain.run(config, workdir)
    assert starts == [8]
    assert points(workdir) == points(straight)
    assert f"model: as {origin} has it, 2 layers of width 32\n" in capsys.readouterr().out
    assert wd.read_config(workdir)["init_from"] == str(origin)
    with Checkpoints(workdir) as checkpoints:
        origin_of = {step: checkpoints.read_record(step).run["begun_from"] for step in (8, 12)}
    told = {"directory": str(origin), "step": 12}
    assert origin_of == {8: told, 12: told}


def test_a_run_that_is_yet_to_begin_needs_it(begun, tmp_path):
    origin, config, straight = begun
    with pytest.raises(InputError, match=rf"^{origin} holds no finished checkpoint"):
        pretrain.run(config, tmp_path)
    # A config alone is no beginning.
    shutil.copy(straight / "config.json", tmp_path)
    with pytest.raises(InputError, match="holds no finished checkpoint"):
        pretrain.run(config, tmp_path)


def test_another_origin_under_a_run_is_refused(begun, pretrained):
    _, config, workdir = begun
    for other in (str(pretrained), "none"):
        with config.unlocked():
            changed = config.copy_and_resolve_references()
        changed.init_from = other
        with pytest.raises(InputError, match=rf"config\.init_from=.* one has '{other}': use a new"):
            pretrain.run(changed, workdir)


def test_rows_longer_than_the_origin_takes(documents_path, pretrained, tmp_path):
    longer = corpus.prepare_config(documents_path)
    longer.instances.length = 48
    prepare.run(longer, tmp_path / "data")
    config = corpus.pretrain_config(tmp_path / "data")
    message = r"have 48 tokens and .*positions=32: prepare with --config\.instances\.length=32, or"
    with pytest.raises(InputError, match=rf"{message} raise it\.$"):
        pretrain.run(config, tmp_path / "run")
    config.init_from = str(pretrained)
    config.model.positions = 64
    with pytest.raises(InputError, match=rf"{message} convert config\.init_from with bert_jax\.c"):
        pretrain.run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_model_is_begun_from_by_one_look_at_its_record(pretrained, monkeypatch):
    found = saved_model.load(pretrained)
    decode, looks, said = record.decode, [], []
    monkeypatch.setattr(record, "decode", lambda content: looks.append(1) or decode(content))
    names = ("encoder", "pooler", "next", "classifier")
    shapes = found.param_shapes | {"classifier": {"bias": 7}}
    params = load_modules(found, shapes, names, said.append)
    assert len(looks) == 1
    (line,) = said
    begun, fresh, left_out = line.split("; ")
    assert begun == f"begun from {pretrained}, step 12"
    assert fresh == "fresh: head for masked tokens, classifier"
    assert left_out == "left out: head for masked tokens"
    assert params["classifier"] == shapes["classifier"]
    assert params["mlm"] is shapes["mlm"]
    assert params["pooler"]["dense"]["kernel"].shape == (32, 32)
