import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastent as fe
from tests import naive


@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(2, 9), st.sampled_from([np.float16, np.float32, np.float64]))
def test_logit_margin_is_what_its_definition_says(seed, n, n_classes, dtype):
    rng = np.random.default_rng(seed)
    logits, labels = rng.standard_normal((n, n_classes)).astype(dtype), rng.integers(0, n_classes, n)
    found = fe.logit_margin(logits, labels)
    np.testing.assert_allclose(found, naive.logit_margin(logits, labels), rtol=1e-6, atol=1e-7)
    correct = logits.argmax(1) == labels
    assert (found[correct] >= 0).all()
    assert (found[~correct] <= 0).all()
    np.testing.assert_allclose(fe.logit_margin(np.asfortranarray(logits) + dtype(0), labels), found)


def test_a_constant_added_to_all_logits_does_not_matter():
    logits = np.random.default_rng(0).standard_normal((20, 4))
    labels = np.arange(20) % 4
    np.testing.assert_allclose(fe.logit_margin(logits + 1e3, labels), fe.logit_margin(logits, labels), atol=1e-10)


def test_the_given_logits_are_left_as_they_are():
    logits = np.ones((3, 2))
    assert fe.logit_margin(logits, [True, False, True]).tolist() == [0, 0, 0]
    assert (logits == 1).all()
    with pytest.raises(fe.FastentError, match="label 2 is no column"):
        fe.logit_margin(logits, [0, 1, 2])
