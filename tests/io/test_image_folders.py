"""Folders of pictures, a subfolder for each class."""

import pickle

import numpy as np
import pytest
from PIL import Image

import fastent as fe

GRAY = np.random.default_rng(0).integers(0, 256, (12, 5, 4), np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (12, 5, 4, 3), np.uint8)
NAMES = ["Bär", "class10", "class2"]


def folder(place, pictures):
    for i, picture in enumerate(pictures):
        inner = place / NAMES[i // 4] / ("deep" if i % 4 == 3 else "")
        inner.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(inner / f"z{i:02}.png")
    (place / "README.txt").write_text("x")
    (place / NAMES[0] / ".hidden.png").write_text("x")
    return place


@pytest.mark.parametrize("pictures", [GRAY, COLOUR], ids=["gray", "colour"])
def test_pictures_and_the_names_of_their_folders(tmp_path, pictures):
    place = folder(tmp_path / "pictures", pictures)
    source = fe.open(place)
    assert source.point_shape == pictures.shape[1:]
    flat = pictures.reshape(12, -1)
    np.testing.assert_array_equal(source[:], flat)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(source))[[11, 0, 3]], flat[[11, 0, 3]])
    measured = fe.measure(place, metrics=["geometry"])
    assert measured.classes.tolist() == NAMES
    assert measured.geometry.nc1 == fe.geometry(flat, np.repeat(NAMES, 4), normalize=False).nc1
    run = fe.train(place, seeds=1, epochs=1)
    assert run.class_names == NAMES


def test_pictures_of_several_sizes_and_files_that_are_none(tmp_path):
    place = folder(tmp_path / "pictures", GRAY)
    Image.fromarray(COLOUR[0]).save(place / NAMES[1] / "z99.png")
    assert fe.open(place).point_shape == (5, 4, 3)
    Image.fromarray(GRAY[0][:3]).save(place / NAMES[1] / "z99.png")
    with pytest.raises(fe.FastentError, match=r"has 4 x 5 pixels, .*z99.png' 4 x 3: pictures of one size are needed; resize"):
        fe.open(place)
    (place / NAMES[1] / "z99.png").write_bytes(b"x" * 100)
    with pytest.raises(fe.FastentError, match=r"z99\.png' is damaged or no picture"):
        fe.open(place)
    Image.fromarray(GRAY[0].astype(np.uint16)).save(place / NAMES[1] / "z99.png")
    with pytest.raises(fe.FastentError, match="more than 8 bits in a pixel"):
        fe.open(place)


def test_a_picture_that_is_cut_off_is_met_where_it_is_read(tmp_path):
    place = folder(tmp_path / "pictures", COLOUR)
    path = place / NAMES[0] / "z00.png"
    path.write_bytes(path.read_bytes()[:60])
    source = fe.open(place)
    with pytest.raises(fe.FastentError, match=r"z00\.png' is damaged or no picture"):
        source[:]


def test_labels_that_are_missing(tmp_path):
    np.save(tmp_path / "X.npy", GRAY)
    np.savez(tmp_path / "d.npz", X=GRAY.reshape(12, -1), y=np.arange(12) % 2)
    for X in (GRAY, tmp_path / "X.npy"):
        with pytest.raises(fe.FastentError, match="labels are missing: pass one for each row"):
            fe.measure(X)
    assert len(fe.measure(tmp_path / "d.npz", metrics=["geometry"]).classes) == 2


@pytest.mark.parametrize("hidden", [False, True])
def test_pictures_beside_shards_are_plots_of_them(tmp_path, hidden):
    rows = np.arange(12.0).reshape(6, 2)
    for i in range(3):
        np.save(tmp_path / f"{i}.npy", rows[2 * i :][:2])
    plots = tmp_path / (".thumbs" if hidden else "plots")
    plots.mkdir()
    Image.fromarray(GRAY[0]).save(plots / "a.png")
    np.testing.assert_array_equal(fe.open(tmp_path)[:], rows)


def test_hidden_folders_hold_no_classes_and_no_pictures(tmp_path):
    (tmp_path / ".thumbs").mkdir()
    Image.fromarray(GRAY[0]).save(tmp_path / ".thumbs" / "a.png")
    (tmp_path / "notes" / "b.png").mkdir(parents=True)  # a folder, whatever it is called
    with pytest.raises(fe.FastentError, match=r"holds no \.npy, "):
        fe.open(tmp_path)
    place = folder(tmp_path / "pictures", GRAY)
    (place / NAMES[0] / ".thumbs").mkdir()
    Image.fromarray(GRAY[0][:2]).save(place / NAMES[0] / ".thumbs" / "a.png")
    np.testing.assert_array_equal(fe.open(place)[:], GRAY.reshape(12, -1))


def test_each_picture_is_decoded_once_and_none_that_is_not_asked_for(tmp_path, monkeypatch):
    place = folder(tmp_path / "pictures", GRAY)
    decoded = []
    convert = Image.Image.convert
    monkeypatch.setattr(Image.Image, "convert", lambda self, mode: decoded.append(mode) or convert(self, mode))
    source = fe.open(place)
    for _ in range(2):
        np.testing.assert_array_equal(source[[11, 0, 11, 5]], GRAY.reshape(12, -1)[[11, 0, 11, 5]])
        assert len(decoded) == 3
    np.testing.assert_array_equal(source[2:], GRAY.reshape(12, -1)[2:])
    assert len(decoded) == 11
    assert source[[]].shape == source[3:3].shape == (0, 20)
    decoded.clear()
    fe.measure(place, queries=6, metrics=["mixing", "margins", "geometry"])
    assert len(decoded) == 12
    monkeypatch.setattr("fastent.io.image_folders.available_bytes", lambda: 4 * 239)  # all pictures take 240 bytes
    source = fe.open(place)
    decoded.clear()
    for _ in range(2):
        np.testing.assert_array_equal(source[[11, 0, 11]], GRAY.reshape(12, -1)[[11, 0, 11]])
    assert len(decoded) == 4
    np.testing.assert_array_equal(source[:], GRAY.reshape(12, -1))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labels.csv", "file,label,width\nBär/z00.png,Bär,4\nBär/z01.png,Bär,4\n"),
        ("labels.csv", "id,label\n0,1\n1,0\n"),
        ("meta.tsv", "id\tname\n0\tu\n1\tv\n"),
        ("manifest.json", '{"name": "an app of the web", "format": "1"}'),
        ("manifest.json", ""),
    ],
)
def test_what_lies_beside_pictures_and_is_about_them(tmp_path, name, text):
    place = folder(tmp_path / "pictures", GRAY)
    (place / name).write_text(text, encoding="utf-8")
    assert fe.measure(place, metrics=["geometry"]).classes.tolist() == NAMES
    assert fe.open(place).shape == (12, 20)


def test_a_table_of_features_beside_pictures_is_not_about_them(tmp_path):
    place = folder(tmp_path / "pictures", GRAY)
    (place / "rows.csv").write_text("a,b,kind\n1,2,u\n3,4,v\n")
    with pytest.raises(fe.FastentError, match=r"rows\.csv' has columns that are no numbers, 'kind'"):
        fe.open(place)
    assert fe.open(f"{place}:a,b").shape == (2, 2)


def test_a_manifest_of_others_beside_rows(tmp_path):
    np.save(tmp_path / "0.npy", GRAY.reshape(12, -1))
    (tmp_path / "manifest.json").write_text("{}")
    assert fe.open(tmp_path).shape == (12, 20)


def test_folders_that_lack_something(tmp_path):
    for i, picture in enumerate(GRAY):
        Image.fromarray(picture).save(tmp_path / f"{i}.png")
    for use in (fe.open, fe.measure):
        with pytest.raises(
            fe.FastentError, match="holds pictures, but none in subfolders: put those of each class into a subf"
        ):
            use(tmp_path)
        with pytest.raises(fe.FastentError, match=r"nothing at '.*missing': check the path"):
            use(tmp_path / "missing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(fe.FastentError, match=r"empty' holds no .npy.*or of pictures with a subfolder for each class"):
        fe.measure(tmp_path / "empty")
