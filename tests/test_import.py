"""Importing minimae is light, and a module of the model imports only modules that a reader has met before."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import minimae

PACKAGE = Path(minimae.__file__).parent
HEAVY = ("torchvision", "matplotlib", "transformers", "timm", "tyro", "sklearn", "skimage", "tensorboard")
READING_ORDER = ("checks", "patches", "noise", "masking", "positions", "suggest", "sizes", "vit", "decoder", "devices", "targets", "mae")


@pytest.mark.parametrize("statement", ["import minimae", "import minimae.model.mae"])
def test_importing_loads_no_library_that_the_model_does_not_need(statement):
    code = f"import sys; {statement}; print(*(name for name in {HEAVY} if name in sys.modules))"
    environment = os.environ
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


@pytest.mark.parametrize("module", READING_ORDER)
def test_the_model_reads_in_order(module):
    """There is no way back up: every import of the package is of an earlier module."""
    tree = ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level}
    assert imported <= set(READING_ORDER[: READING_ORDER.index(module)])
