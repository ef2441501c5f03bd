"""Flags of several processes that cannot be, and what one process does without the others."""

import jax
import numpy as np
import pytest

from bert_jax.errors import InputError
from bert_jax.training import distributed
from bert_jax.training.logging import RunLog, read_metrics


@pytest.mark.parametrize(
    ("coordinator", "processes", "process", "message"),
    [
        (None, 2, 0, r"^--coordinator_address is missing: give"),
        ("host:1", None, 0, r"^--num_processes is missing"),
        ("host:1", 2, None, r"^--process_id is missing"),
        (None, 2, None, r"^--coordinator_address and --process_id is missing"),
        ("host", 2, 0, r"^--coordinator_address=host has no port: write HOST:PORT"),
        ("host:", 2, 0, r"has no port"),
        (":1", 2, 0, r"^--coordinator_address=:1 has no"),
        ("host:1", 2, 2, r"^--process_id=2 is not one of the 2 processes: .*from 0 to 1"),
        ("host:1", 2, -1, r"^--process_id=-1 is not one"),
        ("host:1", 0, 0, r"^--num_processes=0 must be at least 1"),
    ],
)
def test_flags_that_cannot_be(coordinator, processes, process, message):
    with pytest.raises(InputError, match=message):
        distributed.start(coordinator, processes, process, timeout_seconds=1)


def test_without_flags_and_cluster_it_is_one_process(monkeypatch):
    found = []

    def initialize(*flags, **_):
        found.append(flags)
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    distributed.start(None, None, None, timeout_seconds=60)
    assert found == [(None, None, None)]
    distributed.start(None, 1, None, timeout_seconds=60)
    assert len(found) == 1  # no cluster was looked for
    assert distributed.is_main()


def test_a_cluster_that_cannot_be_joined_is_an_input_error(monkeypatch):
    def initialize(*_, **__):
        raise RuntimeError("no such job")

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    with pytest.raises(InputError, match=r"cannot be joined \(no such job\): give --coordinator"):
        distributed.start(None, None, None, timeout_seconds=60)


def test_a_long_sentence_is_exchanged_as_far_as_it_goes(monkeypatch):
    # Of two processes, the other one failing: Chinese characters of three bytes are cut.
    sentence = "书" * distributed.SENTENCE_BYTES
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(
        distributed.multihost_utils, "process_allgather", lambda own: [own * 0, own]
    )
    nothing, cut = distributed._exchange(sentence)
    assert nothing == ""
    assert cut == "书" * (distributed.SENTENCE_BYTES // 3)


def test_all_go_by_the_numbers_of_the_main_process(monkeypatch):
    # Of two processes this one is the other, which sees more, or less, or nothing.
    assert distributed.of_main([4, 8]) == [4, 8]
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    for seen, main in (([4, 8, 12], [4, 8]), ([4], [4, 8]), ([], [8]), ([4], [])):
        said = iter((np.int32(len(main)), np.array(main, np.int32)))

        def broadcast(own, said=said):
            found = next(said)
            assert own.shape == found.shape  # or the processes could not exchange it
            return found

        monkeypatch.setattr(distributed.multihost_utils, "broadcast_one_to_all", broadcast)
        assert distributed.of_main(seen) == main


def test_only_the_main_process_logs(tmp_path, monkeypatch, capfd):
    def log(text):
        with RunLog(tmp_path, step=0, total_steps=1, title=text) as run_log:
            run_log.write(1, "train", {"loss": 0.5})
            run_log.progress(1, {"loss": 0.5})
            run_log.say(text)

    with monkeypatch.context() as patch:
        patch.setattr(jax, "process_index", lambda: 1)
        log("other")
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")
    log("main")
    assert {path.name for path in tmp_path.iterdir()} == {"metrics.jsonl", "tensorboard"}
    assert len(read_metrics(tmp_path)) == 1
