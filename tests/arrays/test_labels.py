"""Which labels are taken, which are refused, and what is said of those that can hardly be meant."""

import re
import unicodedata
import warnings

import numpy as np
import pytest
import torch

import fastent as fe
from fastent.arrays.validation import as_labels

X = np.random.default_rng(0).standard_normal((60, 4)).astype(np.float32)
CODES = np.arange(60) % 3
NAMES = np.array(["cat", "dog", "emu"])


def notes(labels):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the notes say it, and nothing else does
        return [note for note in fe.measure(X, labels, k=3, metrics=["mixing", "dimension"]).notes if note.startswith("labels")]


@pytest.mark.parametrize("special", [-1, -100, -999, -(2**31), -(2**63)])
def test_numbers_that_stand_for_no_label_are_named(special):
    labels = np.where(CODES == 2, special, CODES)
    (note,) = notes(labels)
    assert note.startswith(f"labels: 20 rows have the label {special}, which often stands for ")
    assert note.endswith("here it is a class of its own; if it is none, drop these rows")
    near = fe.neighbors(X, 3)
    for call in (
        lambda: fe.mixing(near, labels),
        lambda: fe.lisi(near, labels, 1.1),
        lambda: fe.intrinsic_dimension(near, labels=labels),
        lambda: fe.geometry(X, labels),
        lambda: fe.margins(X, labels),
        lambda: fe.silhouette(X, labels),
        lambda: fe.complexity(X, labels),
        lambda: fe.soft_nearest_neighbor_loss(X, labels),
    ):
        with pytest.warns(UserWarning, match=f"labels: 20 rows have the label {special}") as caught:
            call()
        assert [each.filename for each in caught] == [__file__]


@pytest.mark.parametrize("labels", [[-1, 1], [-1, 0], [0, 255], [-2, 3, 5], [0, 1, 254, 255], [True, False]])
def test_two_classes_and_plain_numbers_are_not(labels):
    assert notes(np.array(labels)[np.arange(60) % len(labels)]) == []


def test_pixels_to_ignore_are_named():
    assert notes(np.where(CODES == 2, 255, CODES).astype(np.uint8))[0].startswith("labels: 20 rows have the label 255")


@pytest.mark.parametrize("text", ["nan", "None", "", "<NA>", " NaN ", "n/a"])
def test_words_that_stand_for_no_label_are_named(text):
    assert notes(np.where(CODES == 2, text, NAMES[CODES]))[0].startswith(f"labels: 20 rows have the label {text!r}")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("cat", "cat\r"), ("cat", " cat"), ("cat", "cat\u00a0"), ("a cat", "a  cat"), ("cat", "c\u200bat"), ("cat", "cat\x00x"[:4] + "\x07"),
        ("caf\u00e9", unicodedata.normalize("NFD", "caf\u00e9")), ("5", "\uff15"), ("1", "01"), ("1", "1.0"), ("\ufeffcat", "cat"), (b"cat", b"cat\n"),
    ],
)  # fmt: skip
def test_labels_that_look_alike_are_named(one, other):
    labels = np.array([one, other, one[:0] + type(one)(b"dog" if isinstance(one, bytes) else "dog")])[CODES]
    (note,) = notes(labels)
    assert note.startswith("labels: 2 labels look alike and are classes of their own: ")
    assert note.isascii()
    assert note.isprintable()
    texts = [each.decode() if isinstance(each, bytes) else each for each in (one, other)]
    assert all(ascii(text) in note for text in texts)


def test_many_alike_are_counted_and_not_all_shown():
    names = np.array([f"c{i}{end}" for i in range(9) for end in ("", " ")])
    (note,) = notes(names[np.arange(60) % 18])
    assert note.startswith("labels: 18 labels look alike")
    assert "; and 6 more; if they are meant to be the same, make them equal" in note


@pytest.mark.parametrize(
    "names", [["cat", "Cat", "dog"], ["a", "b", "ab"], ["10", "1", "100"], ["0", "00x", "x"], ["v1", "v01", "v1.0"]]
)
def test_different_names_are_not(names):
    assert notes(np.array(names)[CODES]) == []


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.where(CODES == 2, np.nan, CODES), "labels holds 20 values that are no whole numbers, first nan at row 2: classes are integers, strings or booleans; drop the rows without a label"),
        (np.where(CODES == 2, None, NAMES[CODES]), "labels holds objects of type NoneType, str: integers, strings or booleans are needed; 20 rows have no label, first row 2 (None): drop"),
        ([*NAMES[CODES[:59]].tolist(), float("nan")], "20"),
        (np.array([*NAMES[CODES[:59]].tolist(), np.nan], object), "labels holds objects of type float, str: integers, strings or booleans are needed; 1 row has no label, first row 59 (nan): drop the rows without a label"),
        (np.array([*CODES[:59].tolist(), None], object), "labels holds objects of type NoneType, int: integers, strings or booleans are needed; 1 row has no label, first row 59 (None)"),
        (np.array([*CODES[:59].tolist(), "2"], object), "labels holds objects of type int, str: integers, strings or booleans are needed, all of one type (int in row 0, str in row 59)"),
        (np.array([*CODES[:59].tolist(), 2**70], object), f"labels has {2**70} in row 59: numbers within 64 bits are needed, or strings"),
        (np.ma.masked_equal(CODES, 2), "labels is a masked array with gaps in 20 rows, first row 2: drop those rows"),
        (CODES[:, None], "labels has shape (60, 1): one label for each point, a 1-D array, is needed; use numpy.ravel(labels)"),
        (np.eye(3)[CODES], "labels has shape (60, 3): one label for each point, a 1-D array, is needed; use labels.argmax(1) for one-hot rows"),
        (np.stack([CODES, CODES], 1), "labels has shape (60, 2): one label for each point, a 1-D array, is needed; choose a column, for instance labels[:, 0]"),
        (np.full((60, 3), np.nan), "labels has shape (60, 3): one label for each point, a 1-D array, is needed; choose a column"),
        (np.int64(3), "labels has shape (): one label for each point, a 1-D array, is needed; use numpy.ravel(labels)"),
    ],
)  # fmt: skip
def test_missing_and_mixed_labels_are_refused_with_their_row(labels, message):
    if message == "20":  # a list of texts and a NaN is one of texts to numpy
        assert notes(labels)[0].startswith("labels: 1 rows have the label 'nan'")
        return
    with pytest.raises(fe.FastentError, match=re.escape(message)):
        fe.measure(X, labels, k=3)


def test_a_masked_array_without_gaps_is_an_array():
    assert fe.geometry(np.ma.masked_array(X), np.ma.masked_array(CODES)).counts.tolist() == [20, 20, 20]


@pytest.mark.parametrize(
    "labels",
    [
        NAMES[CODES].astype(np.dtypes.StringDType()), NAMES[CODES].astype("S"), NAMES[CODES].astype(object),
        np.array([each.encode() for each in NAMES[CODES]], object), CODES.astype(object), CODES.astype(float).astype(object),
        np.asfortranarray(np.stack([CODES, CODES]))[0], np.frombuffer(CODES.tobytes(), np.int64), CODES.astype(np.uint64) + np.uint64(2**63),
        CODES.astype(np.float16), torch.from_numpy(CODES),
    ],
)  # fmt: skip
def test_labels_of_every_kind_are_taken(labels):
    codes, classes = as_labels(labels)
    assert len(classes) == 3
    np.testing.assert_array_equal(codes, CODES)


def test_a_probe_says_what_it_cannot_record():
    labels = torch.from_numpy(np.where(CODES == 2, -100, CODES))
    probe = fe.Probe(torch.nn.Linear(4, 3), [(torch.from_numpy(X), labels)], [""])
    with pytest.warns(UserWarning, match="-100") as caught:
        assert "error" not in probe(0)
    said = [str(each.message) for each in caught]
    assert len(said) == 2
    assert said[0].startswith("labels of the loader: 20 rows have the label -100")
    assert said[1].startswith("labels go down to -100, which no output of the model is for: no error, loss or stragglers")
