"""The task of one's own that the README shows, taken from there."""

import re
import textwrap
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import small

from bert_jax.fields import build
from bert_jax.finetune_config import FinetuneConfig
from bert_jax.tasks import all_tasks
from bert_jax.text.labelled import LabelledText
from configs import finetune_glue

README = Path(__file__).parents[2] / "README.md"


def shown():
    """The file, the line in TASKS and the command."""
    about = README.read_text("utf-8").split("**A task of one's own**")[1]
    about = about.split("A workdir holds")[0]
    indented = (line for line in about.splitlines() if line.startswith("    ") or not line)
    text = textwrap.dedent("\n".join(indented))
    return re.fullmatch(r'(.*)\n("\w+": \w+,)\n(.*)', text, re.DOTALL).groups()


def test_the_example_of_the_readme_is_a_task(monkeypatch):
    code, line, command = shown()
    names = {"__name__": "absolute"}
    exec(code, names)
    for name, kind in eval(f"{{{line}}}", names).items():
        monkeypatch.setitem(all_tasks.TASKS, name, kind)
    config = finetune_glue.get_config("stsb,tiny")
    config.update(dict(re.findall(r"--config\.(\w+)=(\S+)", command)))
    config = build(FinetuneConfig, config)
    kind = all_tasks.named(config.task)
    kind.check(config)
    assert kind.METRICS[config.metric] is False
    rows = [LabelledText("a", "b", label, "a:1") for label in (1.0, 4.0)]
    task = kind(kind.find_labels(rows, config.data), small.tokenizer(), 16, 0)
    batch = jax.tree.map(jnp.asarray, task.batch(task.encode(rows).examples, 3, 16))
    losses, _ = task.losses(jnp.array([[1.5], [2.0], [9.0]]), batch)
    assert (float(losses["loss"].total), float(losses["loss"].weight)) == (2.5, 2.0)
    assert task.weights(batch)["loss"] == 2.0
    metrics = task.score(rows, [np.float32(1.5), np.float32(2.0)], config.data)
    assert metrics["mae"] == 1.25
    assert metrics.keys() == kind.METRICS.keys()
