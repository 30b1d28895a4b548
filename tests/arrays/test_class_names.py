"""What people call the classes: lists, mappings and files, and where the names are shown."""

import json

import numpy as np
import pytest

import fastent as fe
from fastent.arrays.class_names import class_names_of, in_natural_order
from fastent.report.measurement import write_measurement_report

X = np.random.default_rng(0).normal(size=(40, 3))
Y = np.arange(40) % 3


@pytest.mark.parametrize(
    ("given", "classes", "names"),
    [
        (None, [0, 1], None),
        (["a", "b"], [0, 1], ("a", "b")),
        (["a", "b", "c", "d"], [0, 3], ("a", "d")),
        (["a", "b"], [5, 7], ("a", "b")),
        (["a", "b"], [-1, 1], ("a", "b")),
        (["cat", "dog"], ["n01", "n02"], ("cat", "dog")),
        ({5: "five", "7": "seven", 9: "other"}, [5, 7], ("five", "seven")),
        ({"n01": "Katze", "n02": "Hund"}, ["n01", "n02"], ("Katze", "Hund")),
        ({False: "no", True: "yes"}, [False, True], ("no", "yes")),
        ("cat, dog", [0, 1], ("cat", "dog")),
        (["one", "two", "ten"], ["class1", "class10", "class2"], ("one", "ten", "two")),
        (["zebra", "ant", "cat"], ["ant", "cat", "zebra"], ("ant", "cat", "zebra")),
        (["minus one", "two", "ten"], [-1, 2, 10], ("minus one", "two", "ten")),
        (["Dog", "Cat", "Bird"], ["bird", "cat", "dog"], ("Bird", "Cat", "Dog")),
        ("Sea Lion, Polar Bear", ["polar_bear", "sea-lion"], ("Polar Bear", "Sea Lion")),
        (["a", "A"], ["A", "a"], ("A", "a")),
        ({0.0: "a", 1.0: "b"}, [0, 1], ("a", "b")),
        ({"0.0": "a", "1.0": "b"}, [0, 1], ("a", "b")),
        ({0: "no", 1: "yes"}, [False, True], ("no", "yes")),
        ({"0": "no", "true": "yes"}, [False, True], ("no", "yes")),
        ({False: "no", True: "yes"}, [0, 1], ("no", "yes")),
    ],
)
def test_names_by_label_or_in_order(given, classes, names):
    assert class_names_of(given, np.array(classes)) == names


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["a", "b"], "class_names holds 2 names for 3 classes"),
        (["a", "b", "a"], "class_names has 'a' for several classes"),
        (["a", "b", " "], "class_names has '' for several classes or as a name"),
        ({0: "a", 2: "c"}, "class_names has no name for 1: name every class"),
        (["a", None, "c"], "class_names has None, a NoneType, as a name: text is needed for every class"),
        (["a", float("nan"), "c"], "class_names has nan, a float, as a name"),
        ({0: "a", 1: ["b"], 2: "c"}, "class_names has \\['b'\\], a list, as a name"),
        (7, "class_names is a int: a list of names, a mapping or a file is needed"),
        ("missing.txt", "nothing at 'missing.txt'"),
    ],
)
def test_names_that_do_not_fit(given, message):
    with pytest.raises(fe.FastentError, match=message):
        class_names_of(given, np.arange(3))


def test_labels_that_may_count_from_1_are_said():
    said = "count from 0, and no label is 0: label 1 is 'b', 2 is 'c'; if labels count from 1, pass a mapping, {1: 'a', 2: 'b'}"
    with pytest.warns(UserWarning, match=said):
        assert class_names_of(["a", "b", "c"], np.array([1, 2])) == ("b", "c")
    notes = fe.measure(X, Y % 2 + 1, metrics="mixing", class_names=["a", "b", "c"]).notes
    assert any(said in note for note in notes)


def test_names_of_other_classes_are_refused():
    with pytest.raises(
        fe.FastentError, match="would call the class 'bird' 'Cat', which another class is called: pass a mapping"
    ):
        class_names_of(["Cat", "Bird", "Fox"], np.array(["bird", "cat", "dog"]))


def test_what_is_asked_for_is_listed_in_the_order_in_which_it_is_taken():
    with pytest.raises(fe.FastentError, match=r"2 names for 3 classes \(class1, class2, class10\): name every class, in this"):
        class_names_of(["a", "b"], np.array(["class1", "class10", "class2"]))


def test_files_of_names_reach_tables_plots_and_the_report(tmp_path):
    (tmp_path / "names.txt").write_text("Löwe\nTiger\nWal <b>\n", encoding="utf-8")
    (tmp_path / "names.json").write_text(json.dumps({"0": "Löwe", "1": "Tiger", "2": "Wal <b>"}))
    for file in ("names.txt", "names.json"):
        measured = fe.measure(X, Y, metrics=["mixing", "margins", "geometry", "dimension"], class_names=tmp_path / file)
        assert measured.class_names == ["Löwe", "Tiger", "Wal <b>"]
        assert measured.classes.tolist() == [0, 1, 2]
        assert measured.as_json()["classes"] == measured.class_names
        table = measured.per_point()
        assert table.column_names[:3] == ["row", "label", "class"]
        assert [dict(zip(measured.classes.tolist(), measured.class_names))[y] for y in table["label"].to_pylist()] == table[
            "class"
        ].to_pylist()
    write_measurement_report(measured, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "Tiger" in page
    assert "Wal <b>" not in page
    for kind in ("matrix", "margins", "distance", "collapse", "dimension"):
        _, axes = measured.plot(kind)
        ticks = [label.get_text() for axis in (axes.xaxis, axes.yaxis) for label in axis.get_ticklabels()]
        assert any("Tiger" in tick for tick in ticks), kind
    run = fe.train(X, Y, seeds=1, epochs=1, class_names=tmp_path / "names.txt")
    run.save(tmp_path / "run")
    assert fe.load_run(tmp_path / "run").class_names == ["Löwe", "Tiger", "Wal <b>"]


def test_names_are_in_the_order_that_people_expect():
    names = ["class10", "class2", "class1", "Klasse", "3b", "20a", "class2b"]
    assert [names[i] for i in in_natural_order(names)] == ["3b", "20a", "Klasse", "class1", "class2", "class2b", "class10"]
