import copy
import pickle
import warnings

import numpy as np
import pytest
import torch

import fastent as fe
from fastent.runtime.threads import limit_threads


@pytest.fixture(autouse=True)
def one_thread():
    with limit_threads(1), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"torchmetrics\..*")
        yield


@pytest.fixture
def metric_class():
    pytest.importorskip("torchmetrics")
    from fastent.integrations.torchmetrics import ClassGeometryMetric

    return ClassGeometryMetric


def some_rows(n=200, d=6, n_classes=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(n_classes, (n,), generator=generator)
    return torch.randn(n, d, generator=generator) + labels[:, None], labels


def assert_geometry(metric, X, labels, **tolerance):
    expected = fe.geometry(X, labels, normalize=metric.normalize)
    tolerance = tolerance or {"rtol": 1e-9, "atol": 1e-9}
    found, numbers = metric.geometry(), metric.compute()
    np.testing.assert_array_equal(found.counts, expected.counts)
    np.testing.assert_allclose(found.radius, expected.radius, **tolerance)
    np.testing.assert_allclose(found.distance, expected.distance, **tolerance)
    np.testing.assert_allclose(found.fisher, expected.fisher, **tolerance)
    for c, radius in enumerate(expected.radius):
        np.testing.assert_allclose(float(numbers[f"radius/{c}"]), radius, **tolerance)
    np.testing.assert_allclose(float(numbers["distance"]), expected.distance[np.triu_indices(3, 1)].mean(), **tolerance)
    np.testing.assert_allclose(float(numbers["fisher"]), expected.fisher, **tolerance)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_metric_in_batches_and_in_parts_is_the_geometry_of_all(metric_class, normalize, dtype):
    X, labels = some_rows()
    X = X.to(dtype)
    X[5] = 0
    whole, parts = metric_class(3, 6, normalize=normalize), [metric_class(3, 6, normalize=normalize) for _ in range(2)]
    for i, start in enumerate(range(0, 200, 33)):
        here = slice(start, start + 33)
        whole.update(X[here], labels[here])
        parts[i % 2].update(X[here], labels[here])
    parts[0].merge_state(parts[1])
    for metric in (whole, parts[0]):
        assert_geometry(metric, X, labels)
    back = metric_class(3, 6, normalize=normalize)
    whole.persistent(True)
    back.load_state_dict(whole.state_dict(), strict=False)
    assert float(back.geometry().fisher) == float(whole.geometry().fisher)
    whole.reset()
    assert whole.counts.sum() == 0


def test_a_metric_far_from_zero_has_an_origin(metric_class):
    X, labels = some_rows()
    X = X.double() + 1e8
    near = metric_class(3, 6, normalize=False, origin=X[0])
    far = metric_class(3, 6, normalize=False)
    near.update(X, labels)
    far.update(X, labels)
    assert_geometry(near, X, labels, rtol=1e-12)
    exact = fe.geometry(X, labels, normalize=False).radius
    assert np.abs(far.geometry().radius - exact).max() > 1e-3 * exact.max()


def test_a_metric_goes_on_without_some_classes(metric_class):
    X, labels = some_rows()
    metric = metric_class(5, 6)
    one = metric(X[labels == 1], labels[labels == 1])
    assert all(torch.isnan(value) for value in one.values())
    with pytest.raises(fe.FastentError, match="1 were seen"):
        metric.geometry()
    numbers = metric(X, labels)
    assert torch.isnan(numbers["radius/4"])
    assert numbers["radius/2"] == pytest.approx(fe.geometry(X, labels).radius[2])
    assert metric.geometry().classes.tolist() == [0, 1, 2]


CONVERSIONS = {
    "half": lambda module: module.half(),
    "bfloat16": lambda module: module.bfloat16(),
    "double": lambda module: module.double(),
    "to a dtype": lambda module: module.to(torch.float16),
    "to a device and a dtype": lambda module: module.to("cpu", torch.bfloat16),
    "there and back": lambda module: module.half().float(),
    "its own": lambda module: (module.metric.half(), module)[1],
    "set_dtype": lambda module: (module.metric.set_dtype(torch.float16), module)[1],
    "copy": copy.deepcopy,
    "pickle": lambda module: pickle.loads(pickle.dumps(module)),
}


@pytest.mark.parametrize("name", CONVERSIONS)
def test_a_metric_stays_exact_when_its_model_is_converted(metric_class, name):
    X, labels = some_rows()
    X = X.double() * 0.01 + 1000.3
    module = torch.nn.ModuleDict({"net": torch.nn.Linear(6, 3), "metric": metric_class(3, 6, normalize=False, origin=X[0])})
    module.metric = module["metric"]
    module.metric.update(X[:70], labels[:70])
    module = CONVERSIONS[name](module)
    module.metric.update(X[70:], labels[70:])
    assert_geometry(module.metric, X, labels, rtol=1e-9)
    module.metric.reset()
    module.metric.update(X, labels)
    assert_geometry(module.metric, X, labels, rtol=1e-9)


def test_rows_whose_squares_overflow_have_their_direction(metric_class):
    X, labels = some_rows()
    for scale in (1e200, 1e-200):
        metric = metric_class(3, 6)
        metric.update(X.double() * scale, labels)
        assert_geometry(metric, X.double(), labels, rtol=1e-9)


def test_the_mean_radius_is_of_the_classes_seen(metric_class):
    X, labels = some_rows()
    metric = metric_class(5, 6)
    metric.update(X, labels)
    assert float(metric.compute()["radius"]) == pytest.approx(fe.geometry(X, labels).radius.mean())
    radius = metric["radius"]
    assert float(radius.compute()) == float(metric.compute()["radius"])


def test_a_batch_that_cannot_be_used_leaves_what_a_metric_has_seen(metric_class):
    X, labels = some_rows()
    metric = metric_class(3, 6)
    first = metric(X[:100], labels[:100])
    assert float(first["radius/1"]) == pytest.approx(fe.geometry(X[:100], labels[:100]).radius[1])
    damaged = X[:10].clone()
    damaged[2] = torch.nan
    for rows, codes in ((X[:10], labels[:10] + 3), (damaged, labels[:10]), (X[:10, :2], labels[:10])):
        with pytest.raises(fe.FastentError):
            metric(rows, codes)
    metric(X[100:], labels[100:])
    assert_geometry(metric, X, labels)


def test_sums_of_different_kinds_are_never_added(metric_class):
    X, labels = some_rows()
    made = {
        "origin": metric_class(3, 6, origin=X[0]), "normalize": metric_class(3, 6, normalize=False),
        "n_classes": metric_class(4, 6), "n_features": metric_class(3, 5),
    }  # fmt: skip
    metric = metric_class(3, 6)
    metric.update(X, labels)
    metric.persistent(True)
    for name, other in made.items():
        with pytest.raises(fe.FastentError, match=name):
            metric.merge_state(other)
        if name != "origin":
            with pytest.raises(fe.FastentError, match=name):
                other.load_state_dict(metric.state_dict(), strict=False)
    assert_geometry(metric, X, labels)
    # A stored metric brings its origin with its sums.
    other = made["origin"]
    kept = {name: value.float() if value.is_floating_point() else value for name, value in metric.state_dict().items()}
    other.load_state_dict(kept, strict=False)
    assert_geometry(other, X, labels, rtol=1e-5)


def test_metrics_in_a_collection_do_not_take_one_another_s_sums(metric_class):
    torchmetrics = pytest.importorskip("torchmetrics")
    X, labels = some_rows()
    first = torch.nn.functional.normalize(X[:60].double())  # unit rows: both metrics have the same sums at first
    both = torchmetrics.MetricCollection({"unit": metric_class(3, 6), "raw": metric_class(3, 6, normalize=False)})
    both.update(first, labels[:60])
    both.update(X[60:], labels[60:])
    numbers = both.compute()
    rows = torch.cat([first, X[60:].double()])
    for name, normalize in (("unit", True), ("raw", False)):
        expected = fe.geometry(rows, labels, normalize=normalize).radius[2]
        assert float(numbers[f"{name}_radius/2"]) == pytest.approx(expected, rel=1e-9)
    both.reset()
    assert both["unit"].counts.sum() == 0


def test_processes_that_saw_other_classes_are_joined(metric_class):
    X, labels = some_rows()
    parts = [metric_class(4, 6) for _ in range(3)]
    parts[0].update(X[labels == 0], labels[labels == 0])
    parts[1].update(X[labels != 0], labels[labels != 0])

    def gathered(name):
        return lambda state, group=None: [getattr(part, name) for part in parts]

    mine = parts[0]
    names = iter(list(mine._defaults) * 2)
    mine.distributed_available_fn = lambda: True
    mine.dist_sync_fn = lambda state, group=None: gathered(next(names))(state)
    assert_geometry(mine, X, labels)
    assert int(mine.counts.sum()) == int((labels == 0).sum())


def test_what_a_metric_refuses(metric_class):
    X, labels = some_rows()
    metric = metric_class(3, 6)
    for rows, codes, message in (
        (X[:, :5], labels, r"\(200, 5\)"),
        (X, labels[:-1], r"\(199,\)"),
        (X, labels + 1, "from 1 to 3"),
        (X, labels.float(), "float32"),
        (X[:0], labels[:0].float(), "float32"),
        (X.to(torch.complex64), labels, "complex64"),
        (X.numpy(), labels, "X is ndarray"),
        (X, labels.tolist(), "labels list"),
        (X.to("meta"), labels, "X is on meta"),
    ):
        with pytest.raises(fe.FastentError, match=message):
            metric.update(rows, codes)
    assert metric.counts.sum() == 0
    X[3, 3] = torch.inf
    metric.update(X, labels)
    with pytest.raises(fe.FastentError, match="NaN or infinity"):
        metric.compute()
    with pytest.raises(fe.FastentError, match="origin has shape"):
        metric_class(3, 6, origin=[1.0])
    with pytest.raises(fe.FastentError, match="origin cannot be read"):
        metric_class(3, 6, origin=["a"] * 6)


def unlike_metric_of_rank(rank, size, folder):
    from fastent.integrations.torchmetrics import ClassGeometryMetric

    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=size)
    try:
        X, labels = some_rows()
        here = labels == 0 if rank else labels != 0
        metric = ClassGeometryMetric(3, 6)
        X[5] = torch.nan
        metric.update(X[here], labels[here])
        for ask in (metric.compute, metric.geometry, metric.compute):
            with pytest.raises(fe.FastentError, match="NaN or infinity"):
                ask()
            assert int(metric.counts.sum()) == int(here.sum())
        metric = ClassGeometryMetric(3, 6, origin=np.full(6, rank))
        metric.update(X[here], labels[here])
        with pytest.raises(fe.FastentError, match="different origins"):
            metric.compute()
        assert int(metric.counts.sum()) == int(here.sum())
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.spawn
def test_after_an_error_each_process_has_its_own_sums(metric_class, tmp_path):
    torch.multiprocessing.spawn(unlike_metric_of_rank, (2, str(tmp_path)), nprocs=2)


def metric_of_rank(rank, size, folder):
    from fastent.integrations.torchmetrics import ClassGeometryMetric

    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=size)
    try:
        X, labels = some_rows()
        metric = ClassGeometryMetric(3, 6)
        for here in (slice(0, 70), slice(70, 113)) if rank else (slice(113, 200),):
            metric.update(X[here], labels[here])
        assert_geometry(metric, X, labels)
        assert int(metric.counts.sum()) == (113 if rank else 87)  # its own again
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.spawn
def test_a_metric_on_two_processes(metric_class, tmp_path):
    torch.multiprocessing.spawn(metric_of_rank, (2, str(tmp_path)), nprocs=2)
