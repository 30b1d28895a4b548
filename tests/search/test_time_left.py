"""What is said of the time that is left."""

import pytest

from fastent.search.cells import time_left
from fastent.search.cells.time_left import TimeLeft


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time_left, "working_seconds", lambda: now[0])
    return now


def test_time_left_is_that_of_the_rates_so_far(clock):
    left = TimeLeft(1000, 500, cells=4)
    assert left.share_over == 0
    clock[0] += 1
    left.add("deal", 1000)
    clock[0] += 10
    left.add("own", 250)
    left.visits = 1000
    assert left.seconds_left == pytest.approx(10 + 1000 * 0.85 * 10 / 250)
    clock[0] += 10
    left.add("own", 250)
    clock[0] += 5
    left.add("visit", 500)
    assert left.seconds_left == pytest.approx(5)
    assert left.share_over == pytest.approx(26 / 31)
    clock[0] += 5
    left.add("visit", 500)
    assert left.share_over == 1


def test_one_cell_has_no_visits(clock):
    left = TimeLeft(10, 10, cells=1)
    clock[0] += 1
    left.add("deal", 10)
    left.add("own", 10)
    assert left.share_over == 1
