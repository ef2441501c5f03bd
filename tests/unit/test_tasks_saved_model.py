"""What is said where there is no model to open."""

import pytest

from bert_jax.errors import InputError
from bert_jax.tasks import conversion, saved_model
from bert_jax.tasks.conversion import Options


def finished(workdir):
    """With what a finished checkpoint is told by."""
    (workdir / "checkpoints" / "10").mkdir(parents=True)
    (workdir / "checkpoints" / "10" / "_CHECKPOINT_METADATA").touch()


def test_of_several_seeds_one_is_to_be_named(tmp_path):
    for seed in (3, 4):
        (tmp_path / f"seed_{seed}").mkdir()
    with pytest.raises(InputError, match=rf"^{tmp_path} holds no finished checkpoint: name the"):
        saved_model.load(tmp_path)
    finished(tmp_path / "seed_4")
    message = rf"^{tmp_path} holds a run for each seed: name one, such as {tmp_path}/seed_4\.$"
    with pytest.raises(InputError, match=message):
        saved_model.load(tmp_path)
    no_flags = dict.fromkeys(("model_config", "tokenizer", "allow_missing", "allow_unknown"), "")
    paths = dict(source=str(tmp_path), to=str(tmp_path / "to"), format="bert_jax")
    with pytest.raises(InputError, match=message):
        conversion.run(Options(**paths, **no_flags, add_words="", positions=0))
