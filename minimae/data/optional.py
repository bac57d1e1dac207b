"""Import a library only when it is needed, and explain how to install it when it is missing."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType

EXTRAS = dict.fromkeys(("skimage", "sklearn", "scipy", "jupytext"), "book") | dict.fromkeys(("torchmetrics", "pycocotools"), "dense")
EXTRAS |= dict.fromkeys(("onnx", "onnxscript", "onnxruntime"), "onnx") | {"tensorboard": "logs", "timm": "finetune"}
EXTRAS |= {"transformers": "test", "huggingface_hub": "hub"}
DISTRIBUTIONS = {"PIL": "pillow", "skimage": "scikit-image", "sklearn": "scikit-learn", "yaml": "pyyaml"}  # where the two names differ


def need(module: str, *, why: str) -> ModuleType:
    """Import ``module``, or raise ImportError with the command that installs it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise _missing(module, why) from error


def folder_of(module: str, *, why: str) -> Path:
    """The folder of an installed package, found without running its code. Raises ImportError when it is not installed."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise _missing(module, why)
    return Path(spec.origin).parent


def _missing(module: str, why: str) -> ImportError:
    name = module.split(".")[0]
    library = DISTRIBUTIONS.get(name, name)
    command = f'pip install "minimae[{EXTRAS[name]}]"' if name in EXTRAS else f"pip install {library}"
    return ImportError(f"{why} needs {library}, which is not installed or does not load: {command}")


def missing(error: ImportError) -> str:
    """The message for a failed import: our own, or the missing package and the command that installs it."""
    library = (error.name or "").split(".")[0]
    if not library or library == "minimae":
        return str(error)
    return str(_missing(library, "this"))
