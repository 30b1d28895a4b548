"""The same measurement by two Dask workers and by one process with two threads: the overhead of a cluster on one machine."""

import numpy as np
import pytest

import fastent as fe
from bench.activations import augmented_blocks
from bench.scale import scaled

distributed = pytest.importorskip("distributed")

N, QUERIES = scaled(500_000), scaled(20_000, 1000)
METRICS = ["geometry", "mixing", "margins"]


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder, labels = tmp_path_factory.mktemp("shards"), []
    for begin, rows, of_rows in augmented_blocks("trained", N):
        np.save(folder / f"{begin:08d}.npy", rows.astype(np.float16))
        labels.append(of_rows)
    return fe.open(folder), np.concatenate(labels)


def test_cluster(side_by_side, shards):
    X, y = shards
    options = {"metrics": METRICS, "queries": QUERIES}
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        assert fe.measure(X, y, client=client, **options).summary() == fe.measure(X, y, **options).summary()
        side_by_side(
            lambda: fe.measure(X, y, client=client, **options),
            {"one process, two threads": lambda: fe.measure(X, y, **options)},
            rounds=3,
            warmup=False,
            job=f"{', '.join(METRICS)} by two Dask workers: trained, augmented, {N:,} x {X.shape[1]} float16, {QUERIES:,} queries",
        )
