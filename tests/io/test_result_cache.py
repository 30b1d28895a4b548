"""Names of kept parts: the same for the same options, and others for others, whatever these are made of."""

from pathlib import Path

import numpy as np
import pytest

from fastent.errors import FastentError
from fastent.io import result_cache
from fastent.io.result_cache import ResultCache, cache_key


def test_arrays_that_look_alike_when_printed_have_keys_of_their_own(tmp_path):
    rows = np.arange(3000)
    others = [rows[::-1], rows.astype(np.int32), rows.reshape(2, -1), np.where(rows == 1500, 0, rows)]
    assert str(rows) == str(others[-1])
    assert len({cache_key({"queries": each}) for each in [rows, *others]}) == 5
    assert cache_key({"queries": rows}) == cache_key({"queries": np.repeat(rows, 2)[::2]})
    parts = ResultCache(tmp_path)
    for each in (rows, others[-1]):
        assert parts.keep("a", {"asked": {"queries": each}}, lambda each=each: {"x": each})["x"][1500] == each[1500]


def test_keys_of_what_json_has_a_form_for_stay_as_they_were(monkeypatch):
    monkeypatch.setattr(result_cache, "__version__", "0")
    monkeypatch.setattr("sys.byteorder", "little")
    plain = {"data": "digits", "lr": 0.1, "hidden": [20, 20], "classes": None, "of": {"b": (1, 2)}, "threads": 1}
    assert cache_key(plain) == "f48507930144"
    assert cache_key(plain | {"data": Path("a/b")}) == cache_key(plain | {"data": "a/b"})
    assert cache_key(plain | {"lr": np.int64(3)}) == cache_key(plain | {"lr": 3})


@pytest.mark.parametrize("value", [object(), {1, 2}, np.array([None]), lambda: 0, 1j])
def test_what_cannot_be_told_apart_is_refused(value):
    with pytest.raises(FastentError, match="cannot tell kept results apart: pass numbers"):
        cache_key({"asked": {"value": value}})
