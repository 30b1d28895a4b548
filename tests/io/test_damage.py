"""Damaged files of every kind that is read. bench/fuzz_files.py does the same to tens of thousands."""

import pytest

from bench.damage import WAYS, damaged
from bench.fuzz_files import FAULTS, fuzz
from bench.fuzz_originals import KINDS

CASES = 400


@pytest.mark.spawn
def test_damaged_files_are_read_or_refused():
    found = fuzz(CASES, seed=7)
    assert sum(found["outcomes"].values()) == CASES
    assert not {outcome: count for outcome, count in found["outcomes"].items() if outcome in FAULTS}, found["examples"]
    assert found["outcomes"]["refused"] > CASES // 2
    assert all(found["by_kind"][kind].get("refused") for kind in KINDS)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_damage_is_damage(way):
    import numpy as np

    content = b'{"rows": 40, "name": "a"}' * 20
    changed = [bytes(way(bytearray(content), np.random.default_rng(i))) != content for i in range(20)]
    assert sum(changed) > 15
    assert damaged(content, np.random.default_rng(1)) == damaged(content, np.random.default_rng(1))
