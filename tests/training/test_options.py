"""One specification: what the functions take by default, and what is refused, wherever it comes from."""

import inspect
from dataclasses import FrozenInstanceError, fields

import pytest

import fastent as fe
from fastent.training.options import DEFAULTS, STREAMED_DEFAULTS, InMemoryOptions, StreamedOptions

# Options whose default depends on the data, or on what there is on the machine.
LATE = ("epochs", "device", "model")


@pytest.mark.parametrize(("function", "defaults"), [(fe.train, DEFAULTS), (fe.train_streamed, STREAMED_DEFAULTS)])
def test_functions_and_specification_agree(function, defaults):
    parameters = inspect.signature(function).parameters
    for each in fields(defaults):
        assert each.metadata["help"].endswith((".", "..."))
        if each.name not in LATE:
            assert parameters[each.name].default == getattr(defaults, each.name), each.name


@pytest.mark.parametrize(
    ("kind", "option", "value", "message"),
    [
        (InMemoryOptions, "lr", 0, "lr=0: a number above 0 is needed"),
        (InMemoryOptions, "seeds", 1.5, "seeds=1.5: a whole number of at least 1 is needed"),
        (InMemoryOptions, "hidden", (), r"hidden=\(\): at least one hidden layer"),
        (InMemoryOptions, "hidden", "20", "hidden='20': a sequence of whole numbers"),
        (InMemoryOptions, "activation", "gelu", "activation='gelu': choose one of 'tanh', 'relu'"),
        (InMemoryOptions, "optimizer", "torch.optim:Adam", "choose one of 'sgd', 'adam'"),
        (InMemoryOptions, "momentum", 1, "below 1"),
        (InMemoryOptions, "model", 3, "model is a int"),
        (InMemoryOptions, "min_rise", 0, "min_rise=0"),
        (StreamedOptions, "momentum", -1, "of at least 0"),
        (StreamedOptions, "metrics", "mixing", "a sequence of 'geometry', 'mixing' is needed"),
        (StreamedOptions, "metrics", ("mixing",), "'geometry' is always recorded"),
        (StreamedOptions, "record_points", 1, "of at least 2"),
    ],
)
def test_values_that_are_refused(kind, option, value, message):
    with pytest.raises(fe.FastentError, match=message):
        kind(**{option: value})


def test_values_as_they_are_kept():
    options = InMemoryOptions(hidden=[5, 3], lr=1, model="mlp")
    assert (options.hidden, options.lr, options.model, options.device) == ((5, 3), 1.0, None, "cpu")
    assert options.config("hidden", "lr") == {"hidden": [5, 3], "lr": 1.0}
    assert StreamedOptions(optimizer="torch.optim:RMSprop", metrics=("mixing", "geometry")).metrics == ("geometry", "mixing")
    with pytest.raises(FrozenInstanceError):
        options.lr = 2  # type: ignore[misc]
    for kind in (InMemoryOptions, StreamedOptions):
        with pytest.raises(fe.FastentError, match="only optimizer='sgd' has a momentum"):
            kind(optimizer="adam", momentum=0.5)
