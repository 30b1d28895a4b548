"""The history that runs and probes share: records come back as they were added."""

import numpy as np
import pytest

from fastent.activations.history import History, Recording


def recording(updates, capacity=10):
    found = Recording(capacity)
    for update in updates:
        found.add(update, a=np.array([update, -update]), b=np.full((2, 3), update, np.uint8))
    return found


def test_records_by_update():
    found = recording([0, 1, 4])
    assert (len(found), found.last, Recording(3).last) == (3, 4, -1)
    arrays = found.arrays()
    assert arrays["a"].tolist() == [[0, 1, 4], [0, -1, -4]]
    assert (arrays["b"].shape, arrays["b"].dtype) == ((2, 3, 3), np.uint8)
    assert found.last_of("a").tolist() == [4, -4]
    found.only({0, 4, 9})
    found.add(5, a=np.array([5, -5]), b=np.zeros((2, 3), np.uint8))
    assert found.updates == [0, 4, 5]
    assert found.arrays()["a"].tolist() == [[0, 4, 5], [0, -4, -5]]


@pytest.mark.parametrize("capacity", [1, 3, 8])
def test_records_are_taken_up(capacity):
    found = recording([0, 2, 3])
    loaded, restored = Recording(capacity), Recording(capacity)
    loaded.load(found.updates, found.arrays())
    restored.load_state_dict(found.state_dict())
    for other in (loaded, restored):
        assert other.updates == [0, 2, 3]
        for name, array in found.arrays().items():
            np.testing.assert_array_equal(other.arrays()[name], array)
        if capacity > 3:
            other.add(7, a=np.array([7, 7]), b=np.zeros((2, 3), np.uint8))
            assert other.arrays()["a"][:, -1].tolist() == [7, 7]


def test_inversions_of_two_networks():
    epoch = np.arange(81)
    turning, falling = (epoch - 40.0) ** 2 / 1600, 1 - epoch / 80
    radius = np.stack([turning, falling])[:, :, None, None]
    history = History(
        epoch=epoch / 8,
        train_error=np.tile(1 / (1 + epoch), (2, 1)),
        radius=radius,
        distance=None,
        wrong=np.tile(np.packbits([True, False, True]), (2, 81, 1)),
        codes=np.array([0, 0, 1]),
        updates_per_epoch=8,
        resolution=1e-6,
    )
    first, second = history.inversions()[:, 0, 0]
    assert (first.epoch, first.index, second.reason) == (5, 40, "still falling at the last record")
    assert history.stragglers(history.inversions()[:, 0]).tolist() == [[True, False, False], [False, False, False]]
    assert history.misclassified(3).tolist() == [[True, False, True]] * 2
