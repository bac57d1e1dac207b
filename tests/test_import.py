"""Importing minimae is light."""

import os
import subprocess
import sys

import pytest

HEAVY = ("torchvision", "matplotlib", "transformers", "timm", "tyro", "sklearn", "skimage", "tensorboard", "torchmetrics", "pycocotools")


@pytest.mark.parametrize("statement", ["import minimae", "import minimae.model.mae"])
def test_importing_loads_no_library_that_the_model_does_not_need(statement):
    code = f"import sys; {statement}; print(*(name for name in {HEAVY} if name in sys.modules))"
    environment = os.environ
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
