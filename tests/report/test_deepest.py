"""The gallery of points deepest in another class: which are shown, what is near them, and whose pictures."""

import json
import re

import numpy as np
import pytest

import fastent as fe
from fastent.io.sources import ArraySource
from fastent.report.deepest import deepest
from fastent.report.pictures import StoredPictures, pictures_in


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (90, 4, 5), dtype=np.uint8)
    images[:, 0, 0] = np.repeat([0, 90, 200], 30)
    return images, np.repeat(["a", "b", "c"], 30)


@pytest.fixture(scope="module")
def measured(pictures):
    images, labels = pictures
    return fe.measure(images.reshape(90, -1), labels, k=3, metrics=["mixing", "margins"])


def test_the_points_of_the_smallest_margins_are_shown_with_their_hits_and_misses(pictures, measured, monkeypatch):
    images, labels = pictures
    monkeypatch.setattr("fastent.report.deepest._MOST_SHOWN", 20)
    found = deepest(measured, images, 10**6)
    margins = measured.margins
    assert {each["row"] for each in found.details} == set(np.argsort(margins.relative, kind="stable")[:20].tolist())
    assert (found.shown, found.total) == (20, 90)
    assert [group.name for group in found.groups] == sorted({each["label"] for each in found.details})
    for each in found.details:
        row = each["row"]
        assert each["label"] == labels[row]
        share = margins.hit[row] / (margins.hit[row] + margins.miss[row])
        assert each["scores"] == {"nearness": round(share, 4), "strangers": round(1 - measured.mixing.purity[row], 4)}
        which = {near[5]: near[0] for near in each["near"] if near[5]}
        assert which == {"hit": margins.hit_index[row], "miss": margins.miss_index[row]}
        assert {*measured.neighbors.indices[row].tolist(), *which.values()} == {near[0] for near in each["near"]}
        distances = [near[3] for near in each["near"]]
        assert distances == sorted(distances)
        assert all(near[4] is not None for near in each["near"])  # tiny pictures: there is room for all of them
    for group in found.groups:
        values = [found.details[cell.point]["scores"]["nearness"] for cell in group.stragglers]
        assert values == sorted(values, reverse=True)


def test_few_pictures_are_left_where_there_is_no_room(pictures, measured):
    found = deepest(measured, pictures[0], 0)
    assert all(
        near[4] is None or near[0] in {each["row"] for each in found.details} for e in found.details for near in e["near"]
    )


def test_points_alone_in_their_class_and_queries_only(pictures):
    images, labels = pictures
    alone = labels.copy()
    alone[4] = "d"
    found = deepest(fe.measure(images.reshape(90, -1), alone, metrics=["margins"], queries=[4, 8, 50]), images, 10**6)
    assert sorted(each["row"] for each in found.details) == [8, 50]
    assert list(found.orders) == ["nearness"]


def test_no_pictures_or_no_margins_is_no_gallery(pictures, measured):
    images, labels = pictures
    assert deepest(measured, None, 10**6) is None
    assert deepest(fe.measure(images.reshape(90, -1), labels, metrics=["mixing"]), images, 10**6) is None
    for wrong in (images[:5], images.reshape(90, -1)):
        with pytest.raises(fe.FastentError, match=r"pictures \(90, height, width\[, 3\]\) are needed"):
            deepest(measured, wrong, 10**6)


def test_pictures_of_a_source_are_read_as_they_are_asked_for(pictures):
    images, _ = pictures
    source = ArraySource(images)
    found = pictures_in(source)
    assert isinstance(found, StoredPictures)
    assert (found.shape, len(found)) == (images.shape, 90)
    rows = np.array([7, 3, 3])
    np.testing.assert_array_equal(found[rows], images[rows])
    assert pictures_in(ArraySource(images.reshape(90, -1))) is None
    assert pictures_in(images.reshape(90, -1)) is None
    assert pictures_in(images) is images


def test_the_page_shows_them_instead_of_the_table(pictures, measured, tmp_path):
    for images in (pictures[0], None):
        fe.write_report(measured, tmp_path / "page.html", name="x", images=images)
        text = (tmp_path / "page.html").read_text()
        assert ("Points deepest in another class" in text) == (images is not None)
        assert ("Points with the smallest margins" in text) == (images is None)
        data = json.loads(re.search(r'id="data"[^>]*>(.*?)</script>', text, re.DOTALL).group(1))
        assert ("gallery" in data) == (images is not None)
