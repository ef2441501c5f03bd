"""What `python -m bert_jax.predict` makes of its flags."""

import errno
from types import SimpleNamespace

import pytest

from bert_jax import predict
from bert_jax.errors import InputError

GIVEN = dict(model="m", text=["a", "b"], embed="mean", normalise=True, truncate=True)


class Flags:
    """In the place of absl's, which are those of the whole process."""

    def __init__(self):
        self.FLAGS = SimpleNamespace()

    def _define(self, name, default, *_, **__):
        setattr(self.FLAGS, name, default)

    DEFINE_string = DEFINE_multi_string = DEFINE_list = DEFINE_bool = _define


@pytest.fixture
def run(monkeypatch):
    """Runs with flags other than GIVEN and gives what the predictor was made with."""

    monkeypatch.setattr(predict.saved_model, "load", lambda path: f"loaded {path}")

    def of(**changes):
        made = {}

        def predictor(found, **options):
            made.update(options, found=found)
            return lambda texts: [{"text": text[0]} for text in texts]

        monkeypatch.setattr(predict, "Predictor", predictor)
        monkeypatch.setattr(predict, "flags", Flags())
        predict.define_flags()
        vars(predict.flags.FLAGS).update(GIVEN | changes)
        predict.run()
        return made

    return of


def test_every_flag_reaches_the_predictor(run, capsys):
    made = dict(found="loaded m", truncate=True, embed="mean", normalise=True)
    assert run() == made
    assert capsys.readouterr().out == '{"text": "a"}\n{"text": "b"}\n'
    assert run(normalise=False, truncate=False) == made | dict(normalise=False, truncate=False)


def test_a_length_of_no_vector_is_refused(run):
    with pytest.raises(InputError, match=r"^--normalise is for vectors: give --embed too"):
        run(embed="")


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("there", r"^--output=.*there is there and no file: name a file\.$"),
        ("not/here.jsonl", r"here\.jsonl is in a directory that does not exist: make it\.$"),
        ("out.jsonl", r"^--output=.*out\.jsonl cannot be written \(the disk is full\): free space"),
    ],
)
def test_an_output_that_cannot_be_written_is_named_first(
    output, message, run, tmp_path, monkeypatch
):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "there").mkdir()
    monkeypatch.setattr(predict.wd, "try_writing", full)
    monkeypatch.setattr(predict.saved_model, "load", lambda _: pytest.fail("a model was loaded"))
    with pytest.raises(InputError, match=message):
        run(output=str(tmp_path / output))


def test_an_output_on_a_disk_that_is_full_by_then(run, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(predict.wd.os, "replace", full)
    with pytest.raises(InputError, match=r"^--output=.*a\.jsonl cannot be written \(the disk is f"):
        run(output=str(tmp_path / "a.jsonl"))
    assert list(tmp_path.iterdir()) == []
