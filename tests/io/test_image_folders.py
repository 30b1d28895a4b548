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
