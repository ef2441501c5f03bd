"""Multiple choice: rows to batches, logits to answers, rows with different numbers of choices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small

from bert_jax.errors import InputError
from bert_jax.fields import build
from bert_jax.finetune_config import LabelledDataConfig
from bert_jax.tasks.choice import Choice
from bert_jax.tasks.task import Text
from bert_jax.tasks.texts import read_texts
from bert_jax.text.choices import ChoiceText
from configs import finetune_choice

DATA = build(LabelledDataConfig, finetune_choice.get_config().data)


def task_of(max_length=10):
    return Choice(("choice",), small.tokenizer(), max_length, 0)


def row(*choices, text="a", pair="", label=0):
    return ChoiceText(text, pair, choices, label, "file:1")


def pieces(encoding):
    return " ".join(small.PIECES[i] for i in encoding.ids)


def test_every_choice_is_a_text_with_the_question_in_front():
    (example,) = task_of().encode([row("c", "d e", text="a b", pair="好", label=1)]).examples
    assert [pieces(one) for one in example.tokens] == [
        *("[CLS] a b [SEP] 好 c [SEP]", "[CLS] a b [SEP] 好 d e [SEP]"),
    ]
    assert [one.second for one in example.tokens] == [4, 4]
    assert (example.length, example.target, example.row) == (8, 1, 0)


def test_the_longer_side_is_cut_and_the_row_counted():
    found = task_of().encode([row("a", "b"), row("g", "g h", text="a b c d e f", pair="好")])
    assert [pieces(one) for one in found.examples[1].tokens] == [
        *("[CLS] a b c d e [SEP] 好 g [SEP]", "[CLS] a b c d [SEP] 好 g h [SEP]"),
    ]
    assert found.cut == {1: 12}


def batch_of(*rows, size):
    return jax.tree.map(jnp.asarray, task_of().batch(task_of().encode(rows).examples, size, 10))


def test_a_row_with_fewer_choices_is_filled_up():
    batch = batch_of(row("b", "c", label=1), row("d", "e", "f", label=2), size=3)
    assert batch.tokens.ids.shape == (9, 10)
    assert (batch.tokens.instances.sum(axis=1) > 0).tolist() == [True] * 2 + [False] + [
        *([True] * 3 + [False] * 3),
    ]
    assert batch.is_choice.tolist() == [[1, 1, 0], [1, 1, 1], [0, 0, 0]]
    assert batch.labels.tolist() == [1, 2, 0]
    assert batch.weights.tolist() == [1, 1, 0]


def test_what_is_no_choice_has_no_part_in_the_loss():
    task = task_of()
    batch = batch_of(row("b", "c", label=1), row("d", "e", "f", label=2), size=3)
    outputs = jnp.array([[1.0], [2], [9], [0], [1], [3], [7], [7], [7]])
    (losses, extra) = task.losses(outputs, batch)
    first, second = np.exp([1.0, 2]), np.exp([0.0, 1, 3])
    wanted = -np.log(first[1] / first.sum()) - np.log(second[2] / second.sum())
    assert float(losses["loss"].total) == pytest.approx(wanted, rel=1e-6)
    assert float(losses["loss"].weight) == 2
    assert float(extra["accuracy"].total) == 2
    gradient = jax.grad(lambda x: task.losses(x, batch)[0]["loss"].total)(outputs)
    assert np.abs(np.asarray(gradient)[[2, 6, 7, 8]]).max() == 0
    assert np.abs(np.asarray(gradient)[[0, 1, 3, 4, 5]]).min() > 0.01


def test_answers_have_the_choices_of_their_rows():
    task = task_of()
    rows = [row("b", "c", label=1), row("d", "e", "f", label=0)]
    outputs = jnp.array([[1.0], [2], [9], [0], [1], [3]])
    examples = task.encode(rows).examples
    predictions = np.asarray(task.predictions(outputs, batch_of(*rows, size=2)))
    found = task.answers(rows, examples[::-1], list(predictions[::-1]))
    assert [len(answer) for answer in found] == [2, 3]
    assert [answer.sum() for answer in found] == [pytest.approx(1)] * 2
    assert found[0][1] / found[0][0] == pytest.approx(np.e, rel=1e-5)
    metrics = task.score(rows, found, DATA)
    wanted = -np.log([found[0][1], found[1][0]]).mean()
    assert metrics == {"accuracy": 0.5, "loss": pytest.approx(wanted, rel=1e-6)}
    assert task.shown(rows[1], found[1]) == {
        "text": "a",
        "choice": "f",
        "number": 2,
        "probabilities": found[1].tolist(),
    }


def test_who_reads_nothing_knows_the_places():
    known = [row("a", "b", label=1)] * 3 + [row("a", "b", "c", label=0)]
    found = task_of().blind(known, [row("x", "y"), row("x", "y", "z", "w")])
    assert found[0].tolist() == [2 / 6, 4 / 6]
    assert found[1].tolist() == [2 / 8, 4 / 8, 1 / 8, 1 / 8]


@pytest.mark.parametrize(
    ("choices", "message"), [((), "has 0 choices"), (("a",), "has 1 choices"), (("a", ""), "empty")]
)
def test_a_text_without_choices_is_refused(choices, message):
    with pytest.raises(InputError, match=message):
        task_of().row_of(Text("a", "", "here", choices))


def test_choices_are_read_from_a_field(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a", "choices": ["b", "c"]}\n{"text": "d", "choices": ["e"]}\n')
    fields = dict(text_field="text", pair_field="")
    with pytest.raises(InputError, match=r"a\.jsonl:2 has 1 choices"):
        read_texts(str(path), **fields, choices_fields=["choices"])
    path.write_text('{"text": "a", "choices": ["b", "c"]}\n')
    found = read_texts(str(path), **fields, choices_fields=["choices"])
    assert found == [Text("a", "", f"{path}:1", ("b", "c"))]
    (tmp_path / "a.csv").write_text("text,x,y,z\na,b,,c\n")
    found = read_texts(str(tmp_path / "a.csv"), **fields, choices_fields=["x", "y", "z"])
    assert found[0].choices == ("b", "c")
    (tmp_path / "a.txt").write_text("a\n")
    with pytest.raises(InputError, match="--choices_field=choices is for records, and"):
        read_texts(str(tmp_path / "a.txt"), **fields, choices_fields=["choices"])


def test_the_columns_of_texts_are_those_of_a_table(tmp_path):
    fields = dict(text_field="text", pair_field="", choices_fields=[], columns=["text", "label"])
    (tmp_path / "a.csv").write_text("a,1\nb,0\n")
    assert [text.text for text in read_texts(str(tmp_path / "a.csv"), **fields)] == ["a", "b"]
    (tmp_path / "a.csv").write_text("text,label\na,1\n")
    with pytest.raises(
        InputError, match=r"a\.csv has a header line: leave .*\(--columns of predict\)"
    ):
        read_texts(str(tmp_path / "a.csv"), **fields)
    with pytest.raises(InputError, match=r"\(--columns of predict\) has a name twice \(a, a\)"):
        read_texts(str(tmp_path / "a.csv"), **fields | {"columns": ["a", "a"]})
    (tmp_path / "a.txt").write_text("a\n")
    with pytest.raises(InputError, match="--columns=text,label is for records, and"):
        read_texts(str(tmp_path / "a.txt"), **fields)
