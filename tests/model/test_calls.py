"""Wrong calls of every public function: one clear line that names the argument, what was given and what was expected."""

from __future__ import annotations

import doctest
import importlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import minimae

X = torch.randn(2, 3, 8, 8)
NOISE = torch.rand(2, 16)
SIZE = minimae.size("nano")
WRONG: list[tuple[str, Callable[[], Any], str]] = [
    ("make_mask", lambda: minimae.make_mask(4, (4, 4)), r"one integer for each image: torch.arange\(len\(images\)\); not int '4'"),
    ("make_mask", lambda: minimae.make_mask(torch.rand(4), (4, 4)), "ids is a tensor of sample ids"),
    ("make_mask", lambda: minimae.make_mask(torch.arange(4), 4), r"grid is rows and columns of patches: size.grid, or a pair"),
    ("make_mask", lambda: minimae.make_mask(torch.arange(4), (4, 4), ratio="0.75"), "ratio is a share between 0 and 1"),
    ("make_mask", lambda: minimae.make_mask(torch.arange(4), (4, 4), ratio=75), "0.75"),
    ("make_mask", lambda: minimae.make_mask(torch.arange(4), (4, 4), sampling="blocks"), "unknown sampling 'blocks'"),
    ("make_mask", lambda: minimae.make_mask(torch.arange(4), (4, 4), seed=None), "seed is a whole number; not NoneType"),
    ("make_mask", lambda: minimae.make_mask(torch.arange(4), (4, 4), epoch="2"), "epoch is a whole number"),
    ("random_mask", lambda: minimae.random_mask(4, (4, 4), 0.75), "noise is a tensor of random numbers b n"),
    ("random_mask", lambda: minimae.random_mask(NOISE[:, :8], (4, 4), 0.75), "noise has 8 numbers for each image, and this grid needs 16"),
    ("block_mask", lambda: minimae.block_mask(NOISE, (4, 4), 0.75), "this grid needs 144"),
    ("grid_mask", lambda: minimae.grid_mask(NOISE, (4, 4), 0.75), "this grid needs 17"),
    ("mask_from_noise", lambda: minimae.mask_from_noise(NOISE, 0.25), "keep is a whole number; not float '0.25'"),
    ("mask_from_noise", lambda: minimae.mask_from_noise(NOISE, 16), "between 1 and 15, not 16"),
    ("user_mask", lambda: minimae.user_mask(np.ones((2, 16)), (4, 4)), "a tensor b n, .*torch.from_numpy converts an array"),
    ("user_mask", lambda: minimae.user_mask(NOISE > 0.5, 4), "grid is rows and columns"),
    ("keep_count", lambda: minimae.keep_count((4, 4), 0.75), "n is a whole number; not tuple"),
    ("keep_count", lambda: minimae.keep_count(16, 75), "0.75"),
    ("keep_count", lambda: minimae.keep_count(16, None), "ratio is a share between 0 and 1, as 0.75; not NoneType"),
    ("take", lambda: minimae.take(X[:, 0], [0, 1]), "index is a tensor of indices b k; not list"),
    ("take", lambda: minimae.take(X[:, 0], torch.zeros(3, 2, dtype=torch.int64)), "tokens of 2 images and indices of 3"),
    ("grid_of", lambda: minimae.grid_of("224", 16), "image is pixels: a number as 16, or a pair"),
    ("grid_of", lambda: minimae.grid_of(224, 16.0), "patch is pixels"),
    ("patchify", lambda: minimae.patchify(X[0], 4), r"images is a tensor b c height width; not Tensor float32 \(3, 8, 8\)"),
    ("patchify", lambda: minimae.patchify(X.numpy(), 4), "torch.from_numpy converts an array"),
    ("patchify", lambda: minimae.patchify(X, None), "patch is pixels: a number as 16, or a pair .* not NoneType"),
    ("unpatchify", lambda: minimae.unpatchify(X, 4, (2, 2)), r"patches is a tensor b n \(p1 p2 c\)"),
    ("unpatchify", lambda: minimae.unpatchify(torch.rand(2, 4, 48), 4, 2), "grid is rows and columns"),
    ("sincos_1d", lambda: minimae.sincos_1d(4, 8), "coordinates is a tensor of coordinates n"),
    ("sincos_2d", lambda: minimae.sincos_2d(8, 4), "grid is rows and columns"),
    ("sincos_2d", lambda: minimae.sincos_2d((4, 4), (8, 8)), "d is a whole number"),
    ("resize_positions", lambda: minimae.resize_positions(torch.rand(17, 8), 4, 8), "old is rows and columns"),
    ("flops", lambda: minimae.flops("base"), r'a minimae.Size: minimae.size\("base"\); not str'),
    ("parameters", lambda: minimae.parameters("base"), "a minimae.Size"),
    ("size", lambda: minimae.size("bas"), "unknown size 'bas'; did you mean 'base'"),
    ("size", lambda: minimae.size("tiny", img_size=32), "a size has no field 'img_size'; here it is 'image'"),
    ("size", lambda: minimae.size("tiny", imge=32), "did you mean 'image'"),
    ("size", lambda: minimae.size(224), "a size is one of nano"),
    ("patch_loss", lambda: minimae.patch_loss(torch.rand(2, 4, 48), torch.rand(2, 1, 48)), "must have one shape"),
    ("patch_statistics", lambda: minimae.patch_statistics(X), r"patches is a tensor b n \(p1 p2 c\)"),
    ("uniforms", lambda: minimae.uniforms(0, "mask", 0, 4, 16), "ids is a tensor of sample ids"),
    ("uniforms", lambda: minimae.uniforms(0, "masks", 0, torch.arange(4), 16), "unknown random stream 'masks'"),
    ("drop_path", lambda: minimae.drop_path(4, 0.1, True), "x is a tensor b t d"),
    ("MAE", lambda: minimae.MAE("tinny"), "unknown size 'tinny'"),
    ("Encoder", lambda: minimae.Encoder("tinny"), "unknown size 'tinny'; did you mean 'tiny'"),
    ("Encoder", lambda: minimae.Encoder(224), "a size is one of nano"),
    ("Decoder", lambda: minimae.Decoder(768), "a size is one of nano"),
    ("Decoder", lambda: minimae.Decoder(SIZE)(torch.rand(2, 5, 96), 0.75), "the second argument is a mask, not 0.75"),
    ("load", lambda: minimae.load(5), "weights are a name, a file"),
    ("save", lambda: minimae.save(5, "a.safetensors"), "can be saved, not int"),
]  # fmt: skip
CLASSES = {"MLP", "Attention", "Block", "Mask", "MAEOutput", "Pictures", "Size", "NormalisedTarget", "PCATarget", "PixelTarget"}


@pytest.mark.parametrize(("name", "call", "said"), WRONG, ids=[f"{i}-{name}" for i, (name, _, _) in enumerate(WRONG)])
def test_a_wrong_call_gets_one_clear_line(name: str, call: Callable[[], Any], said: str) -> None:
    with pytest.raises((ValueError, minimae.MinimaeError), match=said) as caught:
        call()
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_every_public_function_is_tried() -> None:
    rest = {"SIZES", "Interrupted", "MinimaeError"} | CLASSES
    assert set(minimae.__all__) - rest == {name for name, _, _ in WRONG}


def test_checked_functions_are_the_same_functions() -> None:
    ids = torch.arange(5)
    assert torch.equal(minimae.make_mask(ids, [4, 4]).keep, minimae.model.masking.make_mask(ids, (4, 4)).keep), "a list is a pair too"
    assert minimae.make_mask.__doc__ == minimae.model.masking.make_mask.__doc__
    for name in minimae.__all__:
        if getattr(getattr(minimae, name), "__module__", "") == "minimae":
            assert pickle.loads(pickle.dumps(getattr(minimae, name))) is getattr(minimae, name), name


WITH_EXAMPLES = ["minimae", "minimae.model.sizes", "minimae.weights.registry", "minimae.tasks.pretrained", "minimae.weights.scikit"]


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_the_examples_of_the_docstrings_run(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(importlib.import_module(module), optionflags=doctest.ELLIPSIS)
    assert result.attempted > 0 and result.failed == 0
