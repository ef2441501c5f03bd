"""Where the time of a run goes."""

import pytest

from bert_jax.training.clock import SAVING, STARTING, STEPPING, WAITING, Clock


class FakeTime:
    def __init__(self, now):
        self.now = now

    def __call__(self):
        return self.now


def test_time_is_booked_once_and_to_the_innermost():
    time = FakeTime(100.0)
    clock = Clock(100.0, now=time)
    time.now += 5  # reading, restoring
    with clock.spend(STEPPING):
        time.now += 2
        with clock.spend(WAITING):
            time.now += 1
        time.now += 3
        with clock.spend(SAVING):
            time.now += 4
    assert clock.spent() == {STARTING: 5, STEPPING: 5, WAITING: 1, SAVING: 4}
    assert clock.elapsed() == 15
    assert clock.goodput() == pytest.approx(5 / 15)


def test_what_was_done_after_the_last_checkpoint_and_the_time_down_are_lost():
    time = FakeTime(100.0)
    clock = Clock(100.0, now=time)
    with clock.spend(STEPPING):
        time.now += 10
        record = clock.record()
        time.now += 7  # then it is killed
    time.now += 13
    again = Clock(100.0, record, now=time)
    with again.spend(STEPPING):
        time.now += 10
    assert again.spent()[STEPPING] == 20
    assert again.elapsed() == 20
    assert again.goodput() == pytest.approx(20 / 40)


def test_an_activity_that_raises_is_booked():
    time = FakeTime(0.0)
    clock = Clock(0.0, now=time)

    def save():
        with clock.spend(SAVING):
            time.now += 2
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        save()
    time.now += 1
    assert clock.spent() == {SAVING: 2, STARTING: 1}
