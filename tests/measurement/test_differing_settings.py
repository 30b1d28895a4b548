import pytest

from fastent.measurement.differing_settings import differing_settings

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
