import re

import pytest

from fastent.measurement.differing_settings import confounded, differing_settings

ONE = {"points": 1797, "queries": 1797, "k": 10, "normalize": False, "classes": ["a", "b"]}


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({}, []),
        ({"queries": 40, "k": 5}, ["queries: 1,797; 40", "k: 10; 5"]),
        ({"normalize": True}, ["normalize: False; True"]),
        ({"points": 90, "classes": ["a", "b", "c"]}, ["points: 1,797; 90", "classes: 2; 3"]),
        ({"classes": ["a", "c"]}, ["the classes are not the same"]),
    ],
)
def test_what_measurements_differ_in(other, said):
    assert list(differing_settings([ONE, ONE | other])) == said


def test_temperature_and_seed_count_where_they_matter():
    loss = ONE | {"statistics": {"soft_nearest_neighbor/loss": {}}, "temperature": 1.0, "seed": 0}
    assert list(differing_settings([loss, loss | {"temperature": 10.0}])) == ["temperature: 1; 10"]
    assert list(differing_settings([loss, loss | {"temperature": None, "asked": {"temperature": "1"}}])) == []
    assert list(differing_settings([loss | {"statistics": {}}, loss | {"statistics": {}, "temperature": 10.0}])) == []
    assert list(differing_settings([loss, loss | {"seed": 1}])) == []
    few = {"queries": 40, "sampled": 40}
    assert list(differing_settings([loss | few, loss | few | {"seed": 1}])) == ["seed: 0; 1"]


def test_of_earlier_versions_what_is_not_known_is_no_difference():
    now = ONE | {"statistics": {"soft_nearest_neighbor/loss": {}}, "temperature": "median", "standardize": False, "seed": 0}
    assert list(differing_settings([ONE, now])) == []


@pytest.mark.parametrize(
    ("other", "bare", "why"),
    [
        ({}, set(), ""),
        ({"k": 5}, {"mixing/overlap", "dimension/mle"}, "no intervals of mixing and dimension/mle, which .* differs: k"),
        ({"standardize": True}, None, "no intervals, since all statistics depend on what differs: standardize"),
    ],
)
def test_statistics_that_depend_on_what_differs(other, bare, why):
    statistics = {"mixing/overlap", "dimension/mle", "dimension/twonn", "margins/n3"}
    found, said = confounded(ONE, ONE | other, statistics)
    assert found == (statistics if bare is None else bare)
    assert re.fullmatch(why, said)
