"""What `python -m bert_jax.predict` makes of its flags."""

from types import SimpleNamespace

import pytest

from bert_jax import predict
from bert_jax.errors import InputError

FLAGS = dict(
    model="m", text=["a", "b"], input="", output="", text_field="t",
    embed="mean", normalise=True, truncate=True, pair=[], pair_field="",
)  # fmt: skip


@pytest.fixture
def run(monkeypatch):
    """Runs with flags other than FLAGS and gives what the predictor was made with."""

    def of(**changes):
        made = {}

        def predictor(found, **options):
            made.update(options, found=found)
            return lambda texts: [{"text": text[0]} for text in texts]

        monkeypatch.setattr(predict, "Predictor", predictor)
        monkeypatch.setattr(predict.saved_model, "load", lambda path: f"loaded {path}")
        monkeypatch.setattr(predict.flags, "FLAGS", SimpleNamespace(**FLAGS | changes))
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
