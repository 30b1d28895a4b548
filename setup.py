"""Puts kernels into the wheel that were compiled beforehand: FASTENT_PREBUILT names their folder; see kernels/prebuilt.py.

All else about the package is in pyproject.toml.
"""

import os
import shutil
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

PREBUILT = os.environ.get("FASTENT_PREBUILT")


class BuildPackage(build_py):
    def run(self):
        kernels = Path(self.build_lib, "fastent", "kernels")
        shutil.rmtree(kernels, ignore_errors=True)  # of a build before this one: files of other names would change the digest
        super().run()
        if PREBUILT and not self.editable_mode:
            shutil.copytree(PREBUILT, kernels / "compiled")


class BuildWheel(bdist_wheel):
    def finalize_options(self):
        super().finalize_options()
        self.root_is_pure = not PREBUILT

    def get_tag(self):
        if not PREBUILT:
            return super().get_tag()
        # The code needs this system, and what numba keeps with it this version of Python.
        return f"cp{sys.version_info.major}{sys.version_info.minor}", "none", super().get_tag()[2]


setup(cmdclass={"build_py": BuildPackage, "bdist_wheel": BuildWheel})
