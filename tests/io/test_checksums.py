"""Checksums of files are SHA-256, and files of released versions still open."""

import hashlib

import numpy as np
import pytest

import fastent as fe
from fastent.io.checksums import file_checksum, read_checked_npz, read_checked_torch, write_checked_npz, write_checked_torch


def test_the_checksum_of_a_file(tmp_path):
    path = tmp_path / "a"
    for content in (b"", b"abc", bytes(range(256)) * 9000):
        path.write_bytes(content)
        assert file_checksum(path) == hashlib.sha256(content).hexdigest()
        assert file_checksum(path, but_last=2) == hashlib.sha256(content[:-2]).hexdigest()


def test_the_marker_is_the_one_of_released_versions(tmp_path):
    write_checked_npz(tmp_path / "a.npz", {"a": np.arange(3)})
    with np.load(tmp_path / "a.npz") as stored:
        assert stored.files == ["a", "fastent.sealed"]
    np.savez(tmp_path / "lost.npz", **{"a": np.arange(3), "fastent.sealed": np.array(True)})
    with pytest.raises(fe.FastentError, match=r"its checksum \(SHA-256\) does not agree: restore it"):
        read_checked_npz(tmp_path / "lost.npz", "restore it", earlier=True)


def test_tensors_with_a_checksum(tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "w.pt"
    write_checked_torch(path, {"w": torch.eye(2), "epoch": 3})
    found = read_checked_torch(path, "start anew", "no checkpoint")
    assert found["epoch"] == 3
    assert torch.equal(found["w"], torch.eye(2))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(fe.FastentError, match=r"w\.pt' is damaged, its checksum \(SHA-256\) does not agree: start anew"):
        read_checked_torch(path, "start anew", "no checkpoint")
