"""Pickles of CIFAR-10: what they hold is read, what they would run is not, whatever they are made of."""

import os
import pickle
import pickletools
import struct
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastent as fe
from fastent.data.formats import read_cifar10
from fastent.data.pickled import read_plain_pickle

PLANES = np.random.default_rng(0).integers(0, 256, (4, 3072), np.uint8)
LABELS = [3, 1, 4, 1]


def batch_of_python_2(planes=PLANES, labels=LABELS):
    """As cPickle wrote the files that are downloaded: protocol 2, text as bytes, numpy of before version 2."""

    def text(value):
        return b"U" + bytes([len(value)]) + value

    raw = planes.tobytes()
    dtype = (
        b"cnumpy\ndtype\n"
        + text(b"u1")
        + b"K\x00K\x01\x87R(K\x03"
        + text(b"|")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    )
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b") + b"\x87R(K\x01"
    array += (
        b"J" + struct.pack("<i", len(planes)) + b"M\x00\x0c\x86" + dtype + b"\x89T" + struct.pack("<i", len(raw)) + raw + b"tb"
    )
    values = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"\x80\x02}(" + text(b"data") + array + text(b"labels") + values + text(b"batch_label") + text(b"1 of 5") + b"u."


def write(folder, content):
    path = folder / "data_batch_1"
    path.write_bytes(content)
    return path


def test_the_files_of_python_2(tmp_path):
    content = batch_of_python_2()
    expected = pickle.loads(content, encoding="bytes")
    np.testing.assert_array_equal(expected[b"data"], PLANES)
    pictures, labels = read_cifar10(write(tmp_path, content))
    np.testing.assert_array_equal(pictures, PLANES.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
    assert labels.tolist() == LABELS


@pytest.mark.parametrize("protocol", range(5))
@pytest.mark.parametrize("labels", [LABELS, np.array(LABELS), np.array(LABELS, ">i4"), np.array(LABELS, np.uint8)], ids=str)
@pytest.mark.parametrize("planes", [PLANES, np.asfortranarray(PLANES)], ids=["C", "F"])
def test_every_protocol(tmp_path, protocol, labels, planes):
    for keys in ((b"data", b"labels"), ("data", "labels")):
        content = pickle.dumps(dict(zip(keys, (planes, labels))), protocol)
        pictures, found = read_cifar10(write(tmp_path, content))
        np.testing.assert_array_equal(pictures, PLANES.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
        assert found.tolist() == LABELS


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.binary(max_size=300) | st.text(max_size=300),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=5) | st.binary(max_size=5) | st.integers(), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(value=plain, protocol=st.integers(1, 5), optimised=st.booleans())
def test_plain_values_are_what_pickle_reads(value, protocol, optimised):
    content = pickle.dumps(value, protocol)
    assert read_plain_pickle(pickletools.optimize(content) if optimised else content) == value


def over_raw_bytes(dtype, raw):
    """numpy.ndarray((1,), dtype, raw): an array over bytes, which may be addresses."""

    def text(value):
        return b"U" + bytes([len(value)]) + value

    return b"cnumpy\nndarray\n(K\x01\x85" + text(dtype) + text(raw) + b"tR"


def reconstructed(shape, dtype, raw, order=b"|"):
    """An array whose state says one thing and whose bytes another."""

    def text(value):
        return b"B" + struct.pack("<i", len(value)) + value

    made = b"cnumpy\ndtype\n" + text(dtype) + b"\x85R(K\x03" + text(order) + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b") + b"\x87R(K\x01"
    return array + shape + made + b"\x89" + raw + b"tb"


def as_data(value):
    return b"\x80\x02}(U\x04data" + value + b"U\x06labels](K\x03K\x01ee" + b"u."


HOSTILE = {
    "objects over addresses": as_data(over_raw_bytes(b"O", b"A" * 8)),
    "bytes over nothing": as_data(over_raw_bytes(b"u1", b"")),
    "objects by their state": as_data(reconstructed(b"K\x01\x85", b"O", b"U\x08AAAAAAAA")),
    "a list for bytes": as_data(reconstructed(b"K\x01\x85", b"O", b"](K\x01e")),
    "more than its bytes": as_data(reconstructed(b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86", b"u1", b"U\x08AAAAAAAA")),
    "a negative shape": as_data(reconstructed(b"J\xff\xff\xff\xff\x85", b"u1", b"U\x08AAAAAAAA")),
    "records": as_data(reconstructed(b"K\x01\x85", b"u1,O", b"U\x08AAAAAAAA")),
    "text of any length": as_data(reconstructed(b"K\x01\x85", b"U99999999", b"U\x08AAAAAAAA")),
    "a dtype of parts": as_data(reconstructed(b"K\x01\x85", b"u1", b"U\x08AAAAAAAA", order=b"x")),
    "a call without a name": as_data(b"K\x01)R"),
    "an instance": b"\x80\x02(ios\nsystem\nU\x05touchq.",
    "a new object": b"\x80\x02cos\nsystem\n)\x81.",
    "a persistent name": b"\x80\x02U\x01xQ.",
    "an extension": b"\x80\x02\x82\x01.",
    "a buffer from outside": b"\x80\x05\x97.",
    "no mark": b"\x80\x02t.",
    "nothing to call": b"\x80\x02R.",
    "nothing to take": b"\x80\x02h\x05.",
    "a key that nests": b"\x80\x02}(" + b")" + b"\x85" * 200_000 + b"K\x01u.",
    "lists that nest": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
    "a list of lists of lists": b"\x80\x02](" + b"]" + b"2" * 50 + b"e" + b".",
    "more bytes than there are": b"\x80\x04\x8e" + b"\xff" * 8 + b"abc",
    "a number of many digits": b"L" + b"9" * 100_000 + b"L\n.",
    "an empty file": b"",
    "no end": b"\x80\x02}",
    "another file": b"PK\x03\x04" + b"\0" * 50,
}


@pytest.mark.spawn
@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_hostile_pickles_are_one_error(tmp_path, content):
    path = write(tmp_path, content)
    code = f"import pathlib, fastent as fe\nfrom fastent.data.formats import read_cifar10\ntry: read_cifar10(pathlib.Path({str(path)!r}))\nexcept fe.FastentError as error: print(error)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{str(path)!r} is no batch of CIFAR-10 (")
    assert len(done.stdout.splitlines()) == 1
    assert os.listdir(tmp_path) == ["data_batch_1"]


@pytest.mark.parametrize("label", [10, 255])
def test_labels_beyond_nine(tmp_path, label):
    (tmp_path / "data_batch_1.bin").write_bytes(bytes([label]) + PLANES[0].tobytes())
    for path in (tmp_path / "data_batch_1.bin", write(tmp_path, batch_of_python_2(labels=[1, label, 2, 3]))):
        with pytest.raises(fe.FastentError, match=f"has the label {label} at row"):
            read_cifar10(path)
