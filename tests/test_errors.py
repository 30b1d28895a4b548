"""Errors are one line that can be printed; warnings point at the line that called the package."""

import inspect

import numpy as np
import pytest
import torch

import fastent as fe
from fastent.activations.hooks import hooked


def test_warnings_point_at_the_caller(recwarn):
    y = np.array([-1, 0, 1] * 20)
    line = inspect.currentframe().f_lineno + 1
    fe.geometry(np.random.default_rng(0).standard_normal((60, 3)), y)
    assert (recwarn[0].filename, recwarn[0].lineno) == (__file__, line)


def test_warnings_from_within_a_model_point_at_who_runs_it(recwarn):
    ids = torch.randint(1, 9, (4, 7))
    ids[0, 3:] = ids[1, 5:] = 0
    model = torch.nn.Sequential(torch.nn.Embedding(9, 3))
    with hooked(model, ["0"]) as run_model:
        line = inspect.currentframe().f_lineno + 1
        run_model(ids)
    said = [(each.filename, each.lineno) for each in recwarn if "look padded with 0" in str(each.message)]
    assert said == [(__file__, line)]


def test_a_message_is_one_line():
    with pytest.raises(fe.FastentError) as caught:
        raise fe.FastentError("a\x1b[2J\n" + "b" * 10_000)
    assert str(caught.value).startswith("a\\x1b[2J\\n")
    assert len(str(caught.value)) == 2000
