"""``import minimae`` is enough: submodules come when they are asked for, and completion lists them."""

import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import minimae

PACKAGE = Path(minimae.__file__).parent
ASKED = """
import minimae
names = dir(minimae)
assert {"data", "plots", "weights", "tasks", "book", "interop", "training", "recipes"} <= set(names), names
minimae.data.load, minimae.plots.reconstructions, minimae.weights.export, minimae.tasks.pretrain.Pretrain, minimae.book.check
minimae.interop.load, minimae.interop.exporting.save_program, minimae.training.loop.fit, minimae.data.pack.pack
assert "pretrain" in dir(minimae.tasks) and "load" in dir(minimae.data)
"""


def test_a_fresh_process_reaches_every_submodule() -> None:
    environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run([sys.executable, "-c", ASKED], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr


def test_every_public_module_is_listed() -> None:
    for package in (minimae, minimae.tasks, minimae.training, minimae.data, minimae.interop, minimae.plots, minimae.recipes):
        public = {module.name for module in pkgutil.iter_modules(package.__path__) if not module.name.startswith("_")}
        assert public <= set(dir(package)), package


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    assert not hasattr(minimae, "no_such_thing")
    with pytest.raises(AttributeError, match="has no attribute 'dat'; did you mean 'data'"):
        minimae.dat  # noqa: B018
