"""The grid of bench/: its oracle, its peers, the choice of BLAS kernels, a cell from data to page."""

import json
import subprocess
import threading
import time

import numpy as np
import pytest

import fastent as fe
from bench import blas, grid_timing, peers
from bench.grid import _judged
from bench.grid_cells import APPROXIMATE, CELLS, GAUSSIAN, Cell, points_of
from bench.grid_page import page
from bench.oracle import Oracle
from bench.texts import _paragraphs_of
from bench.timing import Times, median_ratio, timed

K = grid_timing.K
METRICS = ("euclidean", "cosine")


def rows(n=150, d=16, seed=0):
    X = np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)
    X[7] = X[8]  # of two equal rows either may come first
    return X


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_oracle_agrees_with_the_search(metric, dtype):
    X, points = rows().astype(dtype), rows(20, seed=1).astype(dtype)
    for queries in (None, points):
        found = fe.neighbors(X, K, queries=queries, metric=metric)
        oracle = Oracle(X, X if queries is None else points, K, metric=metric, rows_are_queries=queries is None)
        assert oracle.share_exact(found.distances[oracle.queries]) == 1
        indices = found.indices[oracle.queries]
        if queries is None:  # as peers return them
            indices = np.column_stack([oracle.queries, indices])
        distances = oracle.distances_to(indices)
        assert oracle.share_exact(distances) == oracle.recall(distances) == 1


def test_the_oracle_notices_a_wrong_list():
    X = rows()
    oracle = Oracle(X, X, K, checked=10)
    right = oracle.distances.copy()
    right[0, -1] *= 1.001
    assert oracle.share_exact(right) == pytest.approx(0.9)
    assert oracle.recall(right) == pytest.approx(0.99)


@pytest.mark.parametrize("name", peers.EXACT)
@pytest.mark.parametrize("metric", METRICS)
def test_exact_peers_are_exact(name, metric):
    if name not in peers.installed(peers.EXACT):
        pytest.skip(f"{name} is not installed")
    X, points = rows(), rows(20, seed=1)
    search = peers.EXACT[name][0](X, metric)
    for queries, own in ((X, True), (points, False)):
        oracle = Oracle(X, queries, K, metric=metric, rows_are_queries=own)
        found = search(queries[oracle.queries], K + own)
        assert found.shape == (len(oracle.queries), K + own)
        assert oracle.share_exact(oracle.distances_to(found)) == 1


def test_cells_are_many_and_different():
    assert len(CELLS) >= 60
    assert len({cell.name for cell in CELLS}) == len(CELLS)
    assert len({cell.name for cell in APPROXIMATE}) == len(APPROXIMATE)
    assert {cell.dtype for cell in CELLS} == {"float16", "float32", "float64"}
    assert {cell.metric for cell in CELLS} == set(METRICS)
    assert {cell.queries for cell in CELLS} >= {None, 1, 10, 100, 500, 1000}


def test_a_few_queries_are_no_rows():
    X, points = points_of(Cell(GAUSSIAN, 200, 4, 30, dtype="float16"))
    assert (X.shape, points.shape, X.dtype) == ((200, 4), (30, 4), np.float16)
    assert points_of(Cell(GAUSSIAN, 200, 4))[1] is None


def nearest_rows_backwards(X, metric):
    """No peer to trust."""
    return lambda points, k: np.tile(np.arange(len(X) - 1, len(X) - 1 - k, -1), (len(points), 1))


@pytest.mark.parametrize("queries", [None, 5])
def test_a_cell_from_data_to_page(queries, monkeypatch):
    monkeypatch.setattr(grid_timing, "timed", lambda work, repeats=1: [work(), Times(0.5, 0.25)][1])
    cell = Cell(GAUSSIAN, 300, 8, queries)
    given = {"faiss.knn": peers.EXACT["faiss.knn"][0], "wrong": nearest_rows_backwards}
    figures = _judged(json.loads(json.dumps(grid_timing.timed_cell(cell, given, 2))))
    # A search takes as long as fastent's, building as long again.
    assert figures["peers"]["faiss.knn"]["ratio"] == figures["ratio"] == 2
    assert figures["peers"]["faiss.knn"]["exact_lists"] == 1
    assert figures["peers"]["wrong"]["exact_lists"] < 1
    assert figures["strongest"] == "faiss.knn"
    assert figures["blas"]
    about = {
        "date": "today", "commit": "abc", "machine": {"processor": "a processor", "threads": 2}, "versions": {"numpy": "2"},
        "cells": [figures], "approximate": [figures], "failed": [{"failed": "lists of some cell"}],
    }  # fmt: skip
    text = page(about)
    assert "Least ratio: **2.00**" in text
    assert f"| 2.00 | 2.00 | {GAUSSIAN} | 300 x 8 | {queries or 'all'} | float32 | euclidean | 500 ms, 250 ms |" in text
    assert "wrong 2.00 [0.0% right]" in text
    assert "lists of some cell" in text


def test_a_part_of_the_queries_stands_for_all(monkeypatch):
    monkeypatch.setattr(grid_timing, "timed", lambda work, repeats=1: [work(), Times(1.0, 1.0)][1])
    monkeypatch.setattr(grid_timing, "_CHECKED", 50)
    monkeypatch.setattr(grid_timing, "_BLOCK", 60)
    task = grid_timing.Task.of(Cell(GAUSSIAN, 300, 8))
    contender = grid_timing.Contender(peers.EXACT["faiss.knn"][0], task, task.oracle(), whole=False)
    # Any search takes a second, building another one. Of 50 queries that is 7 seconds for all, of which 1.5 are 64 queries.
    assert contender.trial == Times(1 + 300 / 50, 1 + 300 / 50)
    contender.round()
    assert (contender.part, contender.rounds) == (64, [Times(1 + 300 / 64, 1 + 300 / 64)])


def test_ratios_are_medians_over_rounds():
    peer, own = [Times(2, 4), Times(3, 3), Times(8, 9)], [Times(1, 1), Times(1, 3), Times(2, 3)]
    assert median_ratio(peer, own) == Times(3, 3)


def test_processor_time_is_of_all_threads_and_not_of_waiting():
    def busy():
        until = time.thread_time() + 0.06
        while time.thread_time() < until:
            pass

    def work():
        threads = [threading.Thread(target=busy) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    times = timed(work, repeats=2)
    assert times.processor >= 0.12  # of both, though they run side by side
    assert times.wall >= 0.06
    times = timed(lambda: time.sleep(0.1), repeats=2)
    assert times.wall >= 0.1
    assert times.processor < times.wall / 2


def test_the_fastest_core_type_that_works_is_chosen(monkeypatch):
    seconds = {None: {"8": 3.0, "64": 1.0}, "Haswell": {"8": 2.0, "64": 2.0}}

    def run(command, *, env, **options):
        found = seconds.get(env.get("OPENBLAS_CORETYPE"))
        assert "OPENBLAS_L2_SIZE" not in env
        return subprocess.CompletedProcess(command, -4 if found is None else 0, json.dumps(found), "illegal instruction")

    monkeypatch.setenv("OPENBLAS_CORETYPE", "Nehalem")
    monkeypatch.setenv("OPENBLAS_L2_SIZE", "512")
    monkeypatch.setattr(subprocess, "run", run)
    assert blas.fastest_core_types([8, 64]) == {8: "Haswell", 64: blas.OWN_CHOICE}
    seconds.clear()
    with pytest.raises(RuntimeError, match="illegal instruction"):
        blas.fastest_core_types([8])


def test_paragraphs_are_text_of_docstrings(tmp_path):
    (tmp_path / "module.py").write_text('"""Too short.\n\nA paragraph of six words,\nat least.\n\n>>> 1 + 1 + 1 + 1\n"""\n')
    assert list(_paragraphs_of(tmp_path / "module.py")) == ["A paragraph of six words, at least."]
    (tmp_path / "broken.py").write_text("def (")
    assert list(_paragraphs_of(tmp_path / "broken.py")) == []
