"""The quickstart without what its stages do: it runs what it prints."""

import importlib
import shlex
from pathlib import Path

import pytest
from absl import flags
from ml_collections import config_flags

from launch import quickstart

ROOT = Path(__file__).parents[2]
SHARES = ("unigram_loss", "mlm_loss", "mlm_accuracy", "next_accuracy", "accuracy", "macro_f1")
# What the closing table wants of the stages.
REACHED = dict.fromkeys(SHARES, 0.5) | {
    "standard_errors": {"accuracy": 0.01},
    "splits": {"heldout": {"not_following": 1, "labelled": 2}},
}


@pytest.fixture
def play(monkeypatch, tmp_path):
    """Runs a variant and gives what it ran: command, config or texts, workdir or model."""

    def of(variant):
        ran = []

        def stage(name):
            def run(config, workdir):
                ran.append((name, config.to_dict(), str(workdir)))
                return REACHED

            return run

        def predictor(model):
            def answers(texts):
                ran.append(("predict", [text[0] for text in texts], model))
                return []

            return answers

        stages = {name: (stage(name), file) for name, (_, file) in quickstart.STAGES.items()}
        monkeypatch.setattr(quickstart, "STAGES", stages)
        monkeypatch.setattr(quickstart, "Predictor", predictor)
        monkeypatch.setattr(quickstart.saved_model, "load", str)
        monkeypatch.setattr(quickstart, "read_splits", lambda *_, **__: {"train": (), "test": ()})
        monkeypatch.setattr(quickstart, "character_ngram_accuracy", lambda *_: 0.5)
        quickstart.quickstart(tmp_path / "a b", variant)
        return ran

    return of


def parsed(command):
    """What a printed command runs, told as above."""
    python, option, *argv = shlex.split(command)
    assert (python, option) == ("python", "-m")
    name = argv[0].removeprefix("bert_jax.")
    given = flags.FlagValues()
    if name == "predict":
        flags.DEFINE_multi_string("text", [], "", flag_values=given)
        flags.DEFINE_string("model", None, "", flag_values=given)
        given(argv)
        return name, given.text, given.model
    config_flags.DEFINE_config_file("config", flag_values=given, sys_argv=argv)
    flags.DEFINE_string("workdir", None, "", flag_values=given)
    given(argv)
    return name, given.config.to_dict(), given.workdir


# ml_collections loads config files by an old method of the import system.
@pytest.mark.filterwarnings(r"ignore:the load_module\(\) method:DeprecationWarning")
@pytest.mark.parametrize("variant", ["", "tiny"])
def test_the_quickstart_prints_what_it_runs(variant, play, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    ran = play(variant)
    printed = [line[2:] for line in capsys.readouterr().out.splitlines() if line[:2] == "$ "]
    assert list(map(parsed, printed)) == ran
    assert {name for name, *_ in ran} == {*quickstart.STAGES, "predict"}


@pytest.mark.parametrize("name", quickstart.STAGES)
def test_the_commands_of_the_quickstart_run_its_stages(name):
    run, _ = quickstart.STAGES[name]
    assert importlib.import_module(f"bert_jax.{name}").run is run


def test_the_last_lines_say_where_everything_lies(play, capsys, tmp_path):
    made = {workdir for name, _, workdir in play("tiny") if name != "predict"}
    made.add(f"{tmp_path}/a b/sentiment/report.html")
    lines = capsys.readouterr().out.rpartition("-" * 78)[2].splitlines()
    assert made == {line[40:] for line in lines if str(tmp_path) in line}
