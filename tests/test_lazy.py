"""``import minimae`` is enough: submodules come when they are asked for, and completion lists them."""

import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import minimae_book
import pytest

import minimae

PACKAGE = Path(minimae.__file__).parent
ASKED = """
import minimae, minimae_book
names = dir(minimae)
assert {"data", "weights", "tasks", "train", "model", "recipes"} <= set(names), names
minimae.data.load, minimae_book.figures.reconstructions, minimae.weights.registry.load, minimae.tasks.pretrain.Pretrain
minimae_book.check, minimae.masking.random_mask, minimae.training.loop.fit  # the old names, too
minimae.weights.load, minimae.weights.export.save_program, minimae.train.loop.fit, minimae.data.pack.pack
assert "pretrain" in dir(minimae.tasks) and "load" in dir(minimae.data)
"""


def test_a_fresh_process_reaches_every_submodule() -> None:
    environment = os.environ
    done = subprocess.run([sys.executable, "-c", ASKED], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr


def test_every_public_module_is_listed() -> None:
    for package in (minimae, minimae.tasks, minimae.train, minimae.data, minimae.weights, minimae.recipes, minimae_book.figures):
        public = {module.name for module in pkgutil.iter_modules(package.__path__) if not module.name.startswith("_")}
        assert public <= set(dir(package)), package


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    assert not hasattr(minimae, "no_such_thing")
    with pytest.raises(AttributeError, match="has no attribute 'dat'; did you mean 'data'"):
        minimae.dat  # noqa: B018
