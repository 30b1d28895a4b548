"""Whatever is wrong with a file is one error that names it, calls it damaged only if it is, and says what to do."""

import errno
import gzip
import io
import json
import os
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

import fastent as fe
from fastent.data.formats import read_idx
from fastent.io.npy import read_array, read_npy, read_npz
from fastent.io.reading import name_list, reading
from fastent.io.store import open_store
from fastent.printable import first_line

X = np.arange(24, dtype=np.float32).reshape(6, 4)


def refused(look, *words):
    with pytest.raises(fe.FastentError) as error:
        look()
    said = str(error.value)
    assert said.isprintable()
    assert len(said) < 1000
    for word in words:
        assert word in said
    return said


def npy_bytes(header, values=b"\0" * 96, version=(1, 0)):
    text = header.encode("latin-1")
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    size = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + size + text + values


def plain_header(shape="(6, 4)", descr="'<f4'", order="False"):
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"


# Paths


def test_what_is_not_damaged_is_not_called_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.npy").mkdir()
    os.mkfifo("pipe.npy")
    Path("empty.npy").touch()
    os.symlink("loop.npy", "loop.npy")
    os.symlink("gone.npy", "link.npy")
    np.savez("X.npz", X=X)
    os.rename("X.npz", "zip.npy")
    np.save("a\nb.npy", X)
    cases = {
        "folder.npy": "is a folder: name a file",
        "pipe.npy": "is a pipe, a socket or a device: copy what it gives into a file",
        "empty.npy": "is empty (0 bytes): save it with numpy.save",
        "loop.npy": "loop.npy",
        "link.npy": "it is a link to 'gone.npy', where nothing is",
        "~/X.npy": "~ is not expanded here, use os.path.expanduser",
        "gone.npy": "check the path",
        "x" * 5000: "File name too long",
        "a\0b.npy": "zero byte",
        "zip.npy": "is no .npy, it is an .npz: rename it",
        "empty.npy/X.npy": "check the path",
    }
    for place, words in cases.items():
        said = refused(lambda place=place: read_npy(place), words)
        assert "damaged" not in said, place
        if place != "folder.npy":
            assert "damaged" not in refused(lambda place=place: fe.open(place)), place
    np.testing.assert_array_equal(fe.open("a\nb.npy")[:], X)
    np.testing.assert_array_equal(fe.open("./a\nb.npy")[:], X)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.EMFILE, errno.ENOMEM])
def test_what_the_system_has_against_it(number):
    def look():
        with reading("X.npy", "write it again"):
            raise OSError(number, os.strerror(number), "X.npy")

    assert "damaged" not in refused(look, "'X.npy' cannot be read (", os.strerror(number), ": ")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ModuleNotFoundError("No module named 'imagecodecs'"), "without a package that is missing"),
        (NotImplementedError("delta of delta"), "uses what is not supported here (delta of delta)"),
        (MemoryError(), "asks for more memory than there is"),
        (RecursionError(), "nested too deeply"),
        (KeyError("\x1b[31mred\n"), "is damaged or"),
        (ExceptionGroup("several", [ValueError("a")]), "is damaged or"),
        (type("PanicException", (BaseException,), {})("a library in Rust"), "is damaged or"),
    ],
)
def test_what_libraries_raise(error, words):
    def look():
        with reading("X.zarr", "write it again"):
            raise error

    refused(look, "'X.zarr'", words)


def test_interruptions_are_not_errors_of_files():
    with pytest.raises(KeyboardInterrupt), reading("X.npy", "write it again"):
        raise KeyboardInterrupt


def test_one_line_of_what_libraries_say():
    assert first_line(ValueError("\n\n a\x1b[2Jb\nsecond")) == "a\\x1b[2Jb"
    assert first_line(ValueError()) == "ValueError"
    assert len(first_line(ValueError("x" * 10_000))) < 250
    assert name_list(range(100)).endswith("10, 11, ... (100 in all)")


# .npy


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (npy_bytes(plain_header("(1000000000000, 4)")), "its header promises 16000000000"),
        (npy_bytes(plain_header("(4294967296, 4294967296)")), "its header promises"),
        (npy_bytes(plain_header("(9223372036854775807, 9223372036854775807, 4)")), "its header promises"),
        (npy_bytes(plain_header("(-6, 4)")), "shape (-6, 4)"),
        (npy_bytes(plain_header(descr="'|O'")), "holds Python objects"),
        (npy_bytes(plain_header(descr="[('a', '|O')]")), "holds Python objects"),
        (npy_bytes(plain_header(descr="'nonsense'")), "is damaged or no .npy of numbers"),
        (npy_bytes(plain_header(descr="'|V0'")), "is damaged or no .npy of numbers"),
        (npy_bytes(plain_header("(" * 5000)), "is damaged or no .npy of numbers"),
        (npy_bytes(plain_header("(6" + "0" * 6000 + ", 4)")), "is damaged or no .npy of numbers"),
        (npy_bytes("[" * 9000), "is damaged or no .npy of numbers"),
        (npy_bytes(plain_header(), version=(9, 0)), "uses what is not supported here (version 9.0 of the format)"),
        (npy_bytes(plain_header(), version=(4, 0)), "uses what is not supported here (version 4.0 of the format)"),
        (npy_bytes(plain_header(), values=b"\0" * 95), "its header promises 224 bytes, there are 223"),
        (b"\x93NUMPY", "is damaged or no .npy of numbers"),
    ],
)
def test_headers_that_lie(tmp_path, content, words):
    path = tmp_path / "X.npy"
    path.write_bytes(content)
    for look in (lambda: read_npy(path), lambda: fe.open(path), lambda: fe.open(tmp_path)):
        refused(look, "X.npy'", words)


@pytest.mark.parametrize(
    "array",
    [
        X.astype([("a", "f4"), ("b", "f4")])[:, 0], X[0], np.float32(3), X.astype("c8"), np.array([["a", "b"]]),
    ],
)  # fmt: skip
def test_the_line_that_makes_rows_of_another_array(tmp_path, monkeypatch, array):
    monkeypatch.chdir(tmp_path)
    np.save("other.npy", array)
    said = refused(
        lambda: fe.open("other.npy"), "is needed; " if array.ndim != 2 and array.dtype.names is None else "other.npy"
    )
    line = "numpy.save" + said.split("numpy.save")[1]
    if array.dtype.kind == "U":
        return
    exec(line, {"numpy": np})
    assert np.load("rows.npy").shape[0] == len(np.atleast_1d(array))


@pytest.mark.parametrize("array", [X, np.asfortranarray(X), X[:, :0], X.astype(">f4"), X > 3, X.astype("f2")])
def test_arrays_that_are_mapped(tmp_path, array):
    np.save(tmp_path / "X.npy", array)
    found = read_npy(tmp_path / "X.npy")
    np.testing.assert_array_equal(found, array)
    assert found.dtype == array.dtype


def test_a_file_that_is_cut_off_while_it_is_open(tmp_path):
    big = np.ones((50_000, 4), np.float32)
    y = np.arange(len(big)) % 2
    (tmp_path / "shards").mkdir()
    for name in ("X.npy", "shards/0.npy", "shards/1.npy"):
        np.save(tmp_path / name, big)
    whole, shards = fe.open(tmp_path / "X.npy"), fe.open(tmp_path / "shards")
    os.truncate(tmp_path / "X.npy", 4096)
    os.truncate(tmp_path / "shards" / "1.npy", 4096)
    for look in (lambda: whole[:], lambda: whole[[49_999]], lambda: fe.geometry(whole, y)):
        refused(look, "X.npy' has been cut off since it was opened, to 4096 of 800128 bytes")
    refused(lambda: shards[:], "1.npy'", "its header promises")
    np.save(tmp_path / "shards" / "1.npy", big[:10])
    refused(lambda: shards[:], "1.npy' has shape (10, 4)", "it had (50000, 4)")


# .npz


def zip_of(path, members, **options):
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, content in members:
            archive.writestr(name, content)


def saved(array):
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([("X.npy", saved(X)), ("X.npy", saved(-X))], "it holds X twice"),
        ([("X.npy", saved(X)), ("X", saved(-X))], "it holds X twice"),
        ([("X.npy", saved(np.array([{}])))], "holds Python objects"),
        ([("X.npy", saved(X) + b"more")], "the header of X promises 224 bytes, there are 228"),
        ([("X.npy", saved(X)[:-4])], "the header of X promises 224 bytes, there are 220"),
        ([("X.npy", npy_bytes(plain_header("(1000000000000, 1000000000000)")))], "there are 224"),
        ([("X.npy", b"text")], "is damaged or no .npz of plain arrays"),
        ([("X.npy", b"")], "is damaged or no .npz of plain arrays"),
        ([("\x1b[2J.npy", saved(X)[:-4])], "\\x1b[2J"),
    ],
)
def test_members_that_lie(tmp_path, members, words):
    path = tmp_path / "X.npz"
    zip_of(path, members)
    refused(lambda: read_npz(path, "save it with numpy.savez"), "X.npz", words)


def test_a_bomb_is_not_unpacked(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "X.npz", x_train=np.zeros((1000, 1000)), y_train=np.arange(1000) % 2)
    monkeypatch.setattr("fastent.io.npy.available_bytes", lambda: 1 << 20)
    for look in (lambda: fe.load_data(tmp_path / "X.npz"), lambda: read_array(f"{tmp_path}/X.npz:x_train", "X")):
        refused(look, "X.npz' unpacks to 8 MiB, and 1 MiB of memory are available")
    assert len(read_array(f"{tmp_path}/X.npz:y_train", "y")) == 1000


def test_an_archive_in_every_other_way(tmp_path):
    path = tmp_path / "X.npz"
    np.savez(path, X=X, y=X[0].astype(">i2"), s=np.array("text"), f=np.asfortranarray(X), e=X[:0])
    found = read_npz(path, "save it with numpy.savez")
    for name, array in np.load(path).items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
    content = bytearray(path.read_bytes())
    content[content.index(X.tobytes()) + 7] ^= 1
    path.write_bytes(content)
    refused(lambda: read_npz(path, "save it with numpy.savez"), "X.npz' is damaged", "CRC")
    np.save(tmp_path / "Y.npy", X)
    os.rename(tmp_path / "Y.npy", path)
    refused(lambda: read_npz(path, "save it with numpy.savez"), "is an .npy, not an .npz: rename it to 'X.npy'")
    path.unlink()
    path.mkdir()
    refused(lambda: read_npz(path, "save it with numpy.savez"), "is a folder")


def test_an_encrypted_archive_is_not_called_damaged(tmp_path):
    path = tmp_path / "X.npz"
    np.savez(path, X=X)
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    said = refused(lambda: read_npz(path, "save it with numpy.savez"), "uses what is not supported here (it is encrypted)")
    assert "damaged" not in said


def test_a_directory_that_lost_members(tmp_path):
    path = tmp_path / "X.npz"
    np.savez(path, X=X, y=X[0], z=X[1])
    content = path.read_bytes()
    end = len(content) - 22
    start = content.index(b"PK\x01\x02")
    second = content.index(b"PK\x01\x02", start + 4)
    for directory, count in ((b"", 0), (content[start:second], 1), (content[second:end], 2)):
        closing = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, count, count, len(directory), start, 0)
        path.write_bytes(content[:start] + directory + closing)
        refused(lambda: read_npz(path, "save it with numpy.savez"), "X.npz' is damaged", "its directory lacks members")
    with zipfile.ZipFile(path, "w"):
        pass
    refused(lambda: read_array(str(path), "X"), "holds no array, and no name was given: name another file")


# IDX


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("shape", "values", "words"),
    [
        ((2**32 - 1, 2**32 - 1, 2**32 - 1), b"ab", "its header promises (4294967295, 4294967295, 4294967295)"),
        ((5,), b"ab", "has 2 values, its header promises (5,)"),
        ((1,), b"abc", "has more than 1 values, its header promises (1,)"),
    ],
)
def test_sizes_that_lie(tmp_path, packed, shape, values, words):
    content = struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape) + values
    path = tmp_path / ("train-labels-idx1-ubyte" + ".gz" * packed)
    path.write_bytes(gzip.compress(content) if packed else content)
    refused(lambda: read_idx(path), path.name, words, "download it again")


def test_packed_bytes_are_not_unpacked_beyond_the_promise(tmp_path):
    path = tmp_path / "train-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(struct.pack(">BBBBI", 0, 0, 8, 1, 10) + bytes(1 << 26)))
    refused(lambda: read_idx(path), "has more than 10 values")
    path.write_bytes(gzip.compress(b"\0\0\x08\x01\0\0\0\x02ab") + b"garbage behind the end")
    refused(lambda: read_idx(path), path.name)
    path.unlink()
    path.mkdir()
    assert "damaged" not in refused(lambda: read_idx(path), "cannot be read (Is a directory)")


# safetensors


def tensors_bytes(header, values=bytes(96)):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + values


@pytest.mark.parametrize(
    "content",
    [
        tensors_bytes({"X": {"dtype": "F32", "shape": [6, 4], "data_offsets": [0, 960]}}),
        tensors_bytes({"X": {"dtype": "F32", "shape": [6, 4], "data_offsets": [-8, 88]}}),
        tensors_bytes({"X": {"dtype": "F32", "shape": [2**40, 4], "data_offsets": [0, 96]}}),
        tensors_bytes({"X": {"dtype": "F32", "shape": [2**63, 2**63], "data_offsets": [0, 96]}}),
        tensors_bytes({n: {"dtype": "F32", "shape": [6, 4], "data_offsets": [0, 96]} for n in "XY"}),
        tensors_bytes(b"[" * 100_000),
        tensors_bytes(b"{"),
        struct.pack("<Q", 2**62) + b"{}",
        b"short",
        b"",
    ],
)
def test_offsets_that_lie(tmp_path, content):
    pytest.importorskip("safetensors")
    (tmp_path / "X.safetensors").write_bytes(content)
    refused(lambda: fe.open(tmp_path / "X.safetensors", "X")[:], "X.safetensors'", ": write it again")


def test_tensors_of_other_kinds_come_with_their_conversion(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    safetensors = pytest.importorskip("safetensors.torch")
    monkeypatch.chdir(tmp_path)
    rows = torch.arange(24.0).reshape(6, 4)
    for other in (rows.to(torch.float8_e4m3fn), rows[0]):
        safetensors.save_file({"X": other}, "other.safetensors")
        said = refused(lambda: fe.open("other.safetensors"), "convert it with ")
        exec(said.split("convert it with ")[1], {"safetensors": __import__("safetensors"), "torch": torch})
        assert fe.open("rows.safetensors").ndim == 2


def test_tensors_of_more_axes_are_flattened(tmp_path):
    torch = pytest.importorskip("torch")
    safetensors = pytest.importorskip("safetensors.torch")
    rows = torch.arange(24.0).reshape(6, 4)
    for shape in ((6, 2, 2), (6, 1, 2, 2)):
        safetensors.save_file({"X": rows.reshape(shape)}, tmp_path / "X.safetensors")
        found = fe.open(tmp_path / "X.safetensors")
        assert (found.shape, found.point_shape) == ((6, 4), shape[1:])
        np.testing.assert_array_equal(found[1:4], rows[1:4].numpy())
        np.testing.assert_array_equal(found[[5, 0]], rows[[5, 0]].numpy())


# Other things that are handed over


@pytest.mark.parametrize(
    "call",
    [
        lambda: fe.load_run(None),
        lambda: fe.load_run(3),
        lambda: fe.load_probe(None),
        lambda: fe.load_data("x" * 5000 + ".npz"),
        lambda: fe.load_data("a\0b.npz"),
        lambda: fe.load_data("mnist", data_dir="x" * 5000),
        lambda: fe.load_run("a\0b"),
        lambda: open_store(None),
        lambda: fe.train("digits", seeds=1, epochs=1, checkpoint=""),
        lambda: fe.train("digits", seeds=1, epochs=1, checkpoint="/dev/null/x"),
        lambda: fe.train("digits", seeds=1, epochs=1, model=3),
        lambda: fe.train_streamed(X, [0, 1] * 3, epochs=1, model=3),
        lambda: fe.load_run("x" * 5000),
        lambda: fe.measure(X, [0, 1] * 3, checkpoint=3),
        lambda: fe.neighbors(X, 2, memory_budget="1" * 400 + "GB"),
        lambda: fe.neighbors(X, 2, memory_budget="0"),
        lambda: fe.lisi(X, [0, 1] * 3),
        lambda: fe.train("digits", model="..:x"),
        lambda: fe.train("digits", model="a..b:x"),
        lambda: fe.train("digits", seeds=1, epochs=1, seed=2**64),
        lambda: fe.open("x" * 5000),
        lambda: fe.measure(X, [0, 1] * 3, k=1, metrics=["mixing"]).to_parquet("/nowhere/x.parquet"),
        lambda: fe.measure(X, [0, 1] * 3, k=1, metrics=["mixing"]).to_parquet("/"),
        lambda: fe.measure(X, [0, 1] * 3, k=1, metrics=["mixing"]).to_parquet("/tmp/" + "x" * 300),
        lambda: fe.measure(X, [0, 1] * 3, k=1, metrics=["mixing"]).to_parquet("/dev/null/x.parquet"),
    ],
)
def test_places_and_values_that_are_none(call):
    refused(call)


def test_numbers_that_numpy_does_not_have():
    torch = pytest.importorskip("torch")
    for dtype in (torch.float8_e4m3fn, torch.float8_e5m2):
        refused(lambda dtype=dtype: fe.neighbors(torch.zeros(5, 2).to(dtype)), "convert with X.float()")


def test_errors_of_models_are_said_to_be_theirs(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.py").write_text("1 / 0")
    for model, words in {
        (lambda: torch.nn.Linear(3, 2)): "the model does not take rows (2, 64) (RuntimeError",
        (lambda: 1 / 0): "model() cannot make a network (ZeroDivisionError: division by zero)",
        "broken:make": "cannot be imported (ZeroDivisionError: division by zero)",
    }.items():
        refused(lambda model=model: fe.train("digits", model=model, seeds=1, epochs=1), words)
