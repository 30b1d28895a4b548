import ast
import pydoc
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import fastent.kernels as kernels
import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import fastent as fe

ROOT = Path(__file__).parent.parent


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.spawn
def test_import_is_light():
    heavy = ("torch", "faiss", "numba", "matplotlib", "scipy", "sklearn", "plotly", "pyarrow", "pandas")
    assert python(f"import fastent, sys; print([name for name in {heavy} if name in sys.modules])") == "[]"


def test_every_public_name_is_there():
    for name in fe.__all__:
        assert getattr(fe, name) is not None
    assert set(fe.__all__) <= set(dir(fe))


@pytest.mark.spawn
def test_a_function_is_not_hidden_by_the_module_of_its_name():
    assert python("import fastent; fastent.ClassMoments; print(callable(fastent.geometry))") == "True"
    assert python("import fastent.statistics.geometry; print(callable(fastent.geometry))") == "True"
    assert (
        python("from fastent.statistics.class_moments import ClassMoments; import fastent; print(callable(fastent.geometry))")
        == "True"
    )

    assert python("import fastent.experiments._stability, fastent.experiments as e; print(callable(e.stability))") == "True"


def test_an_unknown_name():
    with pytest.raises(AttributeError, match="nonsense"):
        fe.nonsense  # noqa: B018


@pytest.mark.spawn
def test_kernels_are_fastents_own():
    assert python("import fastent.kernels.moments as m; print(m.__name__)") == "fastent.kernels.moments"


@pytest.mark.spawn
def test_a_clone_finds_its_own_kernels(tmp_path):
    """Where python looks into the clone first and another fastent is installed, or none."""
    for folder in ("fastent", "kernels"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    code = "import sys; sys.meta_path = [finder for finder in sys.meta_path if 'editable' not in repr(finder)]; "
    code += "import fastent.kernels.target as target; print(target.__file__)"
    found = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == str(tmp_path / "kernels" / "target.py")


def test_every_room_is_in_the_wheel():
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    rooms = {".".join(source.parent.relative_to(ROOT).parts) for source in (ROOT / "fastent").glob("*/**/__init__.py")}
    assert set(packages) == {"fastent", "fastent.kernels"} | rooms


def test_kernels_stand_below_the_rooms():
    """The layers that make lint holds do not see kernels/, which lies at the root."""
    of_fastent, of_others = set(), set()
    for source in Path(kernels.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(source.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            for name in names:
                (of_fastent if name.startswith("fastent") else of_others).add(name)
    assert of_fastent == {"fastent.errors", "fastent.processors"}
    assert not {name.split(".")[0] for name in of_others} - sys.stdlib_module_names - {"llvmlite", "numba", "numpy"}


@pytest.mark.spawn
def test_a_read_only_installation_compiles_without_a_cache(tmp_path):
    """Neither the package's folder nor the user's can be written to: no cache, no error."""
    code = (
        "import numba.core.caching as caching\n"
        "def nowhere(self, py_func): raise RuntimeError('cannot cache function: no locator available')\n"
        "caching.CacheImpl.__init__ = nowhere\n"
        "import fastent as fe; print(fe.geometry([[1.0], [2.0], [4.0]], [0, 0, 1], normalize=False).radius)"
    )
    assert python(code) == "[0.5 0. ]"


def test_the_lowest_versions_are_the_ones_that_are_tested():
    """constraints-minimum.txt has the lower bounds of what `pip install '.[test]'` brings."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lines = project["dependencies"] + [
        line for name in extras if name not in ("map", "other-tools", "lint", "bench") for line in extras[name]
    ]
    pins = [line for line in (ROOT / "constraints-minimum.txt").read_text().splitlines() if not line.startswith("#")]

    def versions(lines):
        needed = [Requirement(line) for line in lines]
        return {each.name.lower(): Version(bound.version) for each in needed for bound in each.specifier}

    assert versions(pins) == versions(lines)


def test_help_begins_with_all_functions_that_people_call():
    functions = {name for name in fe.__all__ if name[0].islower() and name != "figures"}
    assert functions <= set(re.findall(r"fe\.(\w+)", fe.__doc__))
    assert all(hasattr(fe, name) for name in re.findall(r"fe\.(\w+)", fe.__doc__))
    assert "fe.measure(X, labels)" in "\n".join(pydoc.render_doc(fe, renderer=pydoc.plaintext).splitlines()[:12])
