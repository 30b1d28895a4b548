"""Pictures and names of classes in tables, as Hugging Face `datasets` writes them."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import fastent as fe

N = 30
GRAY = np.random.default_rng(0).integers(0, 256, (N, 5, 4), np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (N, 5, 4, 3), np.uint8)
NAMES = ["zebra", "class10", "class2"]
CODES = np.arange(N) % 3
PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def png(picture):
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "png")
    return stream.getvalue()


def table(pictures, codes=CODES, features=None):
    if features is None:
        features = {"image": {"_type": "Image"}, "label": {"names": NAMES, "_type": "ClassLabel"}}
    stored = [{"bytes": png(each), "path": None} if isinstance(each, np.ndarray) else each for each in pictures]
    columns = {"image": pa.array(stored, PICTURE), "width": np.full(len(stored), 4), "label": codes}
    return pa.table(columns).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def saved(folder, made):
    """As `Dataset.save_to_disk` does."""
    folder.mkdir()
    with pa.ipc.new_stream(folder / "data-00000-of-00001.arrow", made.schema) as stream:
        stream.write_table(made, max_chunksize=7)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))
    (folder / "dataset_info.json").write_text("{}")
    return folder


@pytest.mark.parametrize("pictures", [GRAY, COLOUR, [*GRAY[:-1], COLOUR[-1]]], ids=["gray", "colour", "the last in colour"])
def test_pictures_are_points_and_classes_have_names(tmp_path, pictures):
    made = table(pictures)
    pq.write_table(made, tmp_path / "t.parquet", row_group_size=8)
    shape = pictures[-1].shape
    expected = np.array(
        [np.broadcast_to(each.reshape(5, 4, -1), (5, 4, 3) if len(shape) > 2 else (5, 4, 1)) for each in pictures]
    )
    for X in (saved(tmp_path / "saved", made), tmp_path / "t.parquet", f"{tmp_path}/t.parquet:image"):
        source = fe.open(X)
        assert source.point_shape == shape
        np.testing.assert_array_equal(source[:], expected.reshape(N, -1))
        np.testing.assert_array_equal(source[[29, 3, 8]], expected.reshape(N, -1)[[29, 3, 8]])
    for X in (tmp_path / "saved", tmp_path / "t.parquet", made):
        m = fe.measure(X, "label", metrics=["geometry"])
        assert m.classes.tolist() == sorted(NAMES)
        assert m.labels.tolist() == [NAMES[code] for code in CODES]
    run = fe.train(tmp_path / "saved", "label", seeds=1, epochs=1)
    assert sorted(run.class_names) == sorted(NAMES)


def test_pictures_by_their_paths(tmp_path):
    for i, picture in enumerate(GRAY):
        (tmp_path / f"{i}.png").write_bytes(png(picture))
    paths = [{"bytes": None, "path": str(tmp_path / f"{i}.png")} for i in range(N)]
    with pytest.warns(UserWarning, match="flattened"):
        assert fe.neighbors(table(paths), k=1).indices.tolist() == fe.neighbors(GRAY.reshape(N, -1), k=1).indices.tolist()
    (tmp_path / "3.png").unlink()
    with pytest.raises(fe.FastentError, match=r"nothing at '.*3\.png': check the path"):
        fe.measure(table(paths), "label")


@pytest.mark.parametrize(
    ("third", "message"),
    [
        ({"bytes": None, "path": None}, r"X has no picture in row 2, column 'image': drop such rows"),
        (None, r"X has no picture in row 2, column 'image'"),
        ({"bytes": b"RIFF" * 30, "path": "a.wav"}, r"'X, row 2 of image' is damaged or no picture"),
        (GRAY[0][:3], r"'X, row 0 of image' has 4 x 5 pixels, 'X, row 2 of image' 4 x 3: .* one size are needed; resize"),
        (GRAY[0].astype(np.uint16), "row 2 of image' has more than 8 bits in a pixel"),
    ],
)
def test_what_is_no_picture_of_this_size(third, message):
    with pytest.raises(fe.FastentError, match=message):
        fe.measure(table([*GRAY[:2], third, *GRAY[3:]]), "label")


def test_a_picture_that_is_cut_off(tmp_path):
    cut = {"bytes": png(COLOUR[2])[:60], "path": None}
    pq.write_table(table([*COLOUR[:2], cut, *COLOUR[3:]]), tmp_path / "t.parquet")
    with pytest.raises(fe.FastentError, match=r"t\.parquet, row 2 of image' is damaged or no picture"):
        fe.measure(tmp_path / "t.parquet", "label")


def test_pictures_and_embeddings_are_a_choice():
    made = table(GRAY).append_column("embedding", pa.array(GRAY.reshape(N, -1).tolist(), pa.list_(pa.int64(), 20)))
    with pytest.raises(fe.FastentError, match="X holds 'image', 'embedding', and no name was given"):
        fe.measure(made, "label")


def test_numbers_without_a_class():
    codes = np.where(CODES == 2, -1, CODES)
    with pytest.raises(
        fe.FastentError, match=r"'label' of X is -1 in row 2, which stands for no label, as in 10 of 30 rows: drop"
    ):
        fe.measure(table(GRAY, codes), "label")
    with pytest.raises(fe.FastentError, match=r"is 4 in row 1, which is none of its 3 classes, as in 10 of 30 rows"):
        fe.measure(table(GRAY, np.where(CODES == 1, 4, CODES)), "label")


@pytest.mark.parametrize(
    "features",
    [[], {}, {"label": None}, {"label": {"_type": "ClassLabel"}}, {"label": {"_type": "ClassLabel", "names": ["a", "a", "b"]}},
     {"label": {"_type": "ClassLabel", "names": [1, 2, 3]}}, {"label": {"_type": "ClassLabel", "names": ["0", "1", "2"]}}, {"label": {"_type": "Value", "names": NAMES}}],
)  # fmt: skip
def test_metadata_that_name_no_classes(features):
    assert fe.measure(table(GRAY, features=features), "label", metrics=["geometry"]).classes.tolist() == [0, 1, 2]


def test_the_package_itself(tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)})
    made = datasets.Dataset.from_dict({"image": list(map(Image.fromarray, GRAY)), "label": CODES.tolist()}, features=features)
    made.save_to_disk(tmp_path / "saved", num_shards=2)
    made.to_parquet(tmp_path / "t.parquet")
    for X in (made, tmp_path / "saved", tmp_path / "t.parquet"):
        m = fe.measure(X, "label", metrics=["geometry"])
        assert m.classes.tolist() == sorted(NAMES)
        assert m.geometry.nc1 == fe.geometry(GRAY.reshape(N, -1), np.array(NAMES)[CODES], normalize=False).nc1
