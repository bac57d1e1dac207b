"""A pre-trained model: its recipe and statistics, its features, and how it is stored and read back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from ..data.pixels import as_pixels
from ..data.types import Statistics
from ..errors import MinimaeError
from ..model.checks import check_batch
from ..model.mae import MAE
from ..model.sizes import Size
from ..train.checkpoint import load_weights
from ..train.settings import from_dict
from ..train.threads import inference
from .features import Pool, extract
from .pretrain_recipe import Pretrain

PICTURES = "pictures."  # prefix of the names of a second decoder's weights


@dataclass(frozen=True, eq=False)
class Pretrained:
    """A trained model with what is needed to use it: its recipe, and the statistics that normalise its images.

    decoder: whether the decoder was trained too. Weights from elsewhere may have none; they get a fresh one, which cannot reconstruct.
    pictures: the same encoder with a second decoder that predicts plain pixels, if there is one; reconstructions use it.
    """

    model: MAE
    recipe: Pretrain
    statistics: Statistics
    decoder: bool = True
    pictures: MAE | None = None

    def __repr__(self) -> str:
        recipe = self.recipe
        return f"Pretrained({self.size},\n  data={recipe.data!r}, target={recipe.target!r}, ratio={recipe.ratio}, decoder={self.decoder})"

    @property
    def size(self) -> Size:
        """The size of its model."""
        return self.model.size

    def features(self, images: Any, *, pool: Pool = "mean", batch: int = 500) -> Tensor:
        """Images ``N c height width``, of any size that the patch divides → float32 ``N values``, on the CPU.

        images: a tensor, an array or PIL images, not normalised; integers are 0 … 255, floats lie in [0, 1]
        (:func:`minimae.data.pixels.as_pixels`). pool: see :func:`minimae.tasks.features.extract`.

        >>> import torch, minimae
        >>> trained = minimae.load("fashion-nano")
        >>> trained.features(torch.rand(8, 1, 28, 28)).shape
        torch.Size([8, 96])
        """
        if pool not in get_args(Pool):
            raise ValueError(f"unknown pool {pool!r}; choose one of {', '.join(get_args(Pool))}")
        check_batch(batch)
        with inference(self.model):
            return extract(self.model.encoder, *self._inputs(images), pool=pool, batch=batch, precision=self.recipe.precision)

    def _inputs(self, images: Any) -> tuple[Tensor, Statistics]:
        """Pixels and statistics, in the type of a model in half precision or float64."""
        pixels, (mean, std) = as_pixels(images, self.size.channels), self.statistics
        if (dtype := self.model.encoder.project.weight.dtype) == torch.float32:
            return pixels, self.statistics
        return (pixels / 255 if pixels.dtype == torch.uint8 else pixels).to(dtype), (mean.to(dtype), std.to(dtype))


def rebuild(about: dict[str, Any], weights: dict[str, Tensor], source: Path) -> Pretrained:
    """The model of these weights, built from their stored description."""
    try:
        recipe: Pretrain = from_dict(Pretrain, about["settings"])
        model = recipe.mae(from_dict(Size, about["size"]))
        mean, std = (torch.as_tensor(x) for x in about["statistics"])
    except (KeyError, TypeError, ValueError) as error:
        raise MinimaeError(f"{source} does not describe its model in a way this version knows ({error})") from None
    second = {name.removeprefix(PICTURES): value for name, value in weights.items() if name.startswith(PICTURES)}
    load_weights(model, {name: value for name, value in weights.items() if not name.startswith(PICTURES)}, source)
    trained = Pretrained(model.eval(), recipe, (mean, std), bool(about.get("decoder", True)))
    if not second:
        return trained
    pictures = MAE(model.size, target="pixels")
    load_weights(pictures.decoder, second, source)
    pictures.encoder = model.encoder
    return replace(trained, pictures=pictures.eval())


def tensors_of(trained: Pretrained) -> dict[str, Tensor]:
    """All weights by name, as :func:`rebuild` takes them; those of the second decoder begin with ``pictures.``."""
    second = {} if trained.pictures is None else trained.pictures.decoder.state_dict(prefix=PICTURES)
    return {**trained.model.state_dict(), **second}
