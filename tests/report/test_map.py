"""What a report says of its map: whose points, in which colours, with how many pictures, in how many bytes."""

import numpy as np
import pytest

import fastent as fe
from fastent.report.map import Fact, Layout, map_section
from fastent.report.measurement import write_measurement_report
from fastent.report.run import write_run_report
from tests.report.test_report import made_up_run, payload

RNG = np.random.default_rng(0)


def section(n=200, classes=3, images=None, room=10**6, marked=None, **options):
    X, codes = RNG.standard_normal((n, 4)), np.arange(n) % classes
    found = fe.map_points(X, codes, **options)
    names = [f"c{i}" for i in range(classes)]
    return found, map_section(
        [Layout("PCA", "PCA:", found)], codes, names,
        rows=np.arange(n) * 7, facts=[Fact("vote", names, codes)], marked=marked, mark="outvoted", rings_mark="Rings.",
        images=images, room=room,
    )  # fmt: skip


def test_places_are_those_of_the_map_in_one_scale():
    found, drawn = section()
    places = np.column_stack([drawn.figure["layouts"][0][axis] for axis in "xy"])
    moved = found.coordinates - found.coordinates.min(0)
    np.testing.assert_allclose(places, moved / moved.max() * 9999, atol=0.51)
    assert drawn.figure["rows"] == (found.rows * 7).tolist()
    np.testing.assert_allclose(np.array(drawn.figure["layouts"][0]["kept"]) / 10, found.kept)
    assert "All 200 points are shown." in drawn.shown
    assert drawn.sentences[0].startswith(f"PCA: {100 * found.kept_share:.1f}\u00a0% of a point\u2019s 10 nearest neighbours")


def test_a_sample_is_said():
    _, drawn = section(n=300, most=100)
    assert drawn.shown.startswith("100 of 300 points are shown, drawn at random from each class in proportion; ")


def test_pictures_of_marked_points_come_first_and_fit():
    marked = np.zeros(200, bool)
    marked[[3, 50, 199]] = True
    images = RNG.integers(0, 256, (200, 12, 12, 3), np.uint8)
    _, drawn = section(images=images, marked=marked)
    assert drawn.figure["pictures"][:3] == [3, 50, 199]
    assert len(drawn.figure["pictures"]) == 200
    assert drawn.sheet.uri.startswith("data:image/webp;base64,")
    _, few = section(images=images, marked=marked, room=drawn.sheet.size // 2 + 100 * 200)
    assert 3 < len(few.figure["pictures"]) < 200
    assert few.sheet.size <= drawn.sheet.size // 2
    assert few.pictures == f"Pictures of {len(few.figure['pictures'])} of the points are on this page."
    _, none = section(images=images, room=10)
    assert none.sheet is None
    assert none.figure["pictures"] == []


def test_rings_that_would_hide_the_points_are_off_at_first():
    for share, on in ((0.1, True), (0.5, False)):
        _, drawn = section(marked=np.arange(200) < 200 * share)
        assert drawn.ringed is on
        assert drawn.marked == 200 * share
    assert section()[1].mark == ""


@pytest.mark.parametrize(("classes", "told"), [(1, 1), (21, 21), (22, 7), (150, 7)])
def test_classes_that_can_be_told_apart_are_coloured(classes, told):
    assert len(section(classes=classes)[1].told) == told


@pytest.mark.large
def test_ten_thousand_points_with_pictures_fit_into_eight_megabytes(tmp_path):
    X = RNG.standard_normal((10_000, 8), np.float32)
    codes = np.arange(10_000) % 10
    measured = fe.measure(X, codes, metrics="mixing", map="pca")
    images = RNG.integers(0, 256, (10_000, 32, 32, 3), np.uint8)  # noise is what compresses least
    write_measurement_report(measured, tmp_path / "report.html", images=images)
    assert (tmp_path / "report.html").stat().st_size < 8_000_000
    assert len(payload((tmp_path / "report.html").read_text())["map"]["rows"]) == 5000


def test_a_report_without_a_map_has_none(tmp_path):
    run = made_up_run()
    for name, points, maps in (("points", None, ("pca",)), ("maps", RNG.standard_normal((200, 3)), ())):
        write_run_report(run, tmp_path / f"{name}.html", points=points, maps=maps)
        page = (tmp_path / f"{name}.html").read_text()
        assert 'id="map"' not in page
        assert "map" not in payload(page)
    measured = fe.measure(RNG.standard_normal((40, 3)), np.arange(40) % 2, metrics="geometry")
    write_measurement_report(measured, tmp_path / "measured.html")
    assert 'id="map"' not in (tmp_path / "measured.html").read_text()
