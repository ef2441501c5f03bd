"""A task of CLUE from files in its official form, to a submission."""

import copy
import json

import jax
import pytest
from integration import corpus

from bert_jax.errors import InputError
from bert_jax.tasks import evaluate, finetune
from bert_jax.training.sharding import make_mesh
from configs import finetune_clue

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def one_device():
    """Nothing here depends on how many there are, and eight on one machine cost time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetune, "make_mesh", lambda config: make_mesh(config, jax.devices()[:1]))
        yield


def write(path, records):
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records), "utf-8")
    return str(path)


def records(count, seed, *labels):
    texts = [text for text, _ in corpus.reviews(count, seed)]
    return [
        {"sentence1": text, "sentence2": "好", "label": labels[n % len(labels)]}
        for n, text in enumerate(texts)
    ]


def test_from_official_files_to_a_submission(data, tmp_path):
    config = finetune_clue.get_config("ocnli,tiny")
    config.update(init_from="none", tokenizer=str(data / "tokenizer"), epochs=1, max_length=32)
    config.model.positions = 32
    train = records(40, 0, "neutral", "-", "entailment", "contradiction")
    config.data.train = write(tmp_path / "train.50k.json", train)
    dev = write(tmp_path / "dev.json", records(9, 1, "neutral", "-", "entailment"))
    other = write(tmp_path / "other.json", records(4, 2, "contradiction"))
    config.data.update(validation=dev, test=dev, further_tests=(other,))
    unlabelled = [
        {"id": n, "sentence1": r["sentence1"], "sentence2": "" if n == 5 else "好"}
        for n, r in zip((5, 3, 4), records(3, 3, ""), strict=True)
    ]
    config.submissions[0].rows = write(tmp_path / "test.json", unlabelled)
    run = tmp_path / "run"
    finetune.run(config, run)
    found = evaluate.run(config, run)
    assert found["rows"] == 6
    assert found["labels"] == ["contradiction", "entailment", "neutral"]
    assert found["further_tests"][other]["rows"] == 4
    report = (run / "report.md").read_text("utf-8")
    assert report.count("### Metrics") == 2
    assert "other.json" in report
    assert not (run / "ocnli_50k_predict.json").exists()
    config.submit = True
    evaluate.run(config, run)
    answered = run / "ocnli_50k_predict.json"
    lines = answered.read_text("utf-8").splitlines()
    answers = [json.loads(line) for line in lines]
    assert [answer["id"] for answer in answers] == [5, 3, 4]
    assert {answer["label"] for answer in answers} <= set(found["labels"])
    # What a config says beside those named is not of this run.
    answered.unlink()
    asked = ("data.test", "data.further_tests", "submissions")
    missing = dict(test="not there", further_tests=("nor this",))
    others = copy.deepcopy(config)
    others.data.update(missing)
    others.submissions[0].rows = "not there"
    same = evaluate.run(others, run, named=())
    assert (same["test"], same["rows"], list(same["further_tests"])) == (dev, 6, [other])
    assert answered.exists()
    for one in asked:
        with pytest.raises(InputError, match=r"(not there|nor this)"):
            evaluate.run(others, run, named={one})
    # A table without a header is one of this evaluation, not of the run.
    table = tmp_path / "dev.tsv"
    table.write_text("neutral\t很好\t好\nentailment\t不好\t好\n", "utf-8")
    others.data.update(test=str(table), columns=("label", "sentence1", "sentence2"))
    assert evaluate.run(others, run, named={"data.test", "data.columns"})["rows"] == 2
    with pytest.raises(InputError, match=r"dev\.tsv:2 has no field 'label'.*data\.columns"):
        evaluate.run(others, run, named={"data.test"})
    # Rows without labels are good for nothing else.
    config.data.test = config.submissions[0].rows
    with pytest.raises(InputError, match=r"test\.json:1 has no field 'label'"):
        evaluate.run(config, run)
