"""Old names of modules and attributes work for one version, and the warning gives the new one."""

import importlib
import pickle
import subprocess
import sys
import warnings

import pytest
import torch

import minimae
from minimae.moved import MOVED

CORE = ("patches", "masking", "positions", "vit", "decoder", "targets", "mae", "sizes")
# Modules of version 0.6 that a course could have imported → a name that was in it.
OLD = {
    **{f"minimae.{name}": "" for name in (*CORE, "checks", "calls", "noise", "augment", "jitter", "pixels")},
    "minimae.data.source": "Images", "minimae.data.arrays": "from_array", "minimae.data.rehearsal": "make_folder",
    "minimae.training": "", "minimae.training.loop": "fit", "minimae.training.settings": "Settings", "minimae.training.schedule": "",
    "minimae.training.lars": "LARS", "minimae.interop": "load", "minimae.interop.registry": "",
    "minimae.interop.exporting": "save_program", "minimae.weights.exporting": "save_program",
    "minimae.book": "check", "minimae.book.checks": "", "minimae.book.checks.ch07": "", "minimae.book.predictions": "predict",
    "minimae.book.verdict": "Verdict", "minimae.plots": "as_picture", "minimae.plots.masks": "mask_table", "minimae.plots.style": "figure",
    "minimae.recipes.ablations": "ABLATIONS", "minimae.recipes.races": "", "minimae.tasks.dense": "",
    **{f"minimae.{room}.{name}": "" for room in ("training", "train") for name in ("optimisers", "bands", "graphs", "logs")},
    "minimae.tasks.mixing": "draw_shares",
    "minimae.reproduce": "CLAIMS", "minimae.reproduce.claims": "",
}  # fmt: skip
NAMES = """
import sys, warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    from minimae.masking import random_mask
    import minimae.masking as again, minimae.plots as plots
    from minimae.book import check
    from minimae.training import optimisers
print(*(w.message for w in caught if w.category is DeprecationWarning), sep="\\n")
print(*sorted({w.filename for w in caught if w.category is DeprecationWarning}))
"""


@pytest.mark.parametrize("name", OLD)
def test_an_old_module_is_the_new_one(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        module = importlib.import_module(name)
    assert module.__name__ != name and module is sys.modules[module.__name__] is importlib.import_module(module.__name__)
    assert module.__spec__ is not None and module.__spec__.name == module.__name__, "it keeps its own name"
    assert not OLD[name] or hasattr(module, OLD[name])


def test_the_warning_comes_once_gives_the_new_name_and_points_at_the_import() -> None:
    done = subprocess.run([sys.executable, "-c", NAMES], capture_output=True, text=True, check=True)
    *messages, where = done.stdout.splitlines()
    assert sorted(messages) == [
        "minimae.book is now minimae_book",
        "minimae.masking is now minimae.model.masking",
        "minimae.plots is now minimae_book.figures",
        "minimae.train.optimisers is now minimae.train.optim",
        "minimae.training is now minimae.train",
    ]
    assert where == "<string>"


def test_pickles_of_old_names_load() -> None:
    mask = minimae.make_mask(torch.arange(2), (4, 4))
    for value in (mask, minimae.make_mask, minimae.model.masking.make_mask):
        assert pickle.loads(pickle.dumps(value)) is value or isinstance(value, minimae.Mask)
    old = pickle.dumps(minimae.Mask, protocol=0).replace(b"minimae.model.masking", b"minimae.masking")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        assert pickle.loads(old) is minimae.Mask


def test_an_unknown_module_is_not_found() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"minimae\.no_such"):
        importlib.import_module("minimae.no_such")
    with pytest.raises(ModuleNotFoundError), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        importlib.import_module("minimae.training.no_such")
    assert set(MOVED) <= {*OLD}, "each is tried"


def test_an_old_attribute_is_the_new_one() -> None:
    images = torch.zeros(1, 3, 2, 2)
    pictures = minimae.Pictures(images, images, images + 1, images)
    with pytest.warns(DeprecationWarning, match=r"Pictures\.painted is now inpainted"):
        assert pictures.painted is pictures.inpainted


def test_functions_that_chapters_of_version_0_6_import_are_where_they_were() -> None:
    from minimae import devices
    from minimae.train import loop

    assert devices.exact is devices.full_precision and loop.device_of is devices.device_of
