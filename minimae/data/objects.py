"""Objects with masks, for prompts: pictures of one size in memory, and which pixels belong to which object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..model.patches import Pair, pair
from .choose import as_index
from .instances import Instances
from .types import ImageDataset, Statistics

LEAST = 9  # pixels of an object, at the size of the model: smaller objects are left out
FAR = 1 << 16  # more than the objects of a picture


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Objects(ImageDataset):
    """M objects in N pictures; an index counts objects, and a sample id belongs to one. The pixels of two objects never overlap.

    pixels: uint8 ``N c height width``. maps: int16 ``N height width``, 0 for the background, k for object k of a picture.
    picture: int64 ``M``, the index of each object's picture. number: int64 ``M``, its k.
    """

    name: str
    pixels: Tensor
    maps: Tensor
    picture: Tensor
    number: Tensor
    ids: Tensor
    labels = None
    classes = ()
    notes: tuple[str, ...] = ()

    @property
    def channels(self) -> int:
        return self.pixels.shape[1]

    @property
    def image(self) -> Pair:  # type: ignore[override]
        """Height and width in pixels."""
        return self.pixels.shape[2], self.pixels.shape[3]

    @property
    def counted(self) -> str:
        """A description, for messages."""
        return f"{len(self):,} objects in {len(self.pixels):,} pictures"

    def read(self, index: int) -> Tensor:
        return self.pixels[self.picture[index]]

    def masks(self, index: Tensor) -> Tensor:
        """The masks of the objects with these indices ``b`` → bool ``b height width``."""
        return self.maps[self.picture[index]] == self.number[index][:, None, None]

    def subset(self, index: Tensor | Sequence[int]) -> Objects:
        chosen = as_index(index, len(self))
        return replace(self, picture=self.picture[chosen], number=self.number[chosen], ids=self.ids[chosen])

    def to(self, device: torch.device) -> Objects:
        """The same objects, with everything on a device."""
        return replace(self, **{name: getattr(self, name).to(device) for name in ("pixels", "maps", "picture", "number", "ids")})


def fitting_scale(size: Pair, image: int | Pair) -> float:
    """The factor that scales a picture of ``size`` (height, width) to fit into ``image``."""
    return min(side / have for side, have in zip(pair(image), size, strict=True))


def letterbox(picture: Tensor, image: int | Pair, fill: Tensor | None = None) -> Tensor:
    """A picture uint8 ``c height width`` → ``c h w`` of ``image`` pixels: the whole of it, at the top left; the rest has the colour
    ``fill``, ``c`` values from 0 to 255. Without ``fill`` these are masks: a pixel is 1 if more than half of it was not 0, else 0."""
    (rows, columns), (height, width) = pair(image), picture.shape[-2:]
    scale = fitting_scale((height, width), image)
    inner = max(1, round(height * scale)), max(1, round(width * scale))
    x = picture.float() if fill is not None else (picture > 0).float()
    if inner != (height, width) and len(x):
        x = F.interpolate(x[None], size=inner, mode="bilinear" if fill is None else "bicubic", antialias=True)[0]
    around = torch.zeros(len(x)) if fill is None else fill
    padded = around[:, None, None].expand(-1, rows, columns).clone()
    padded[:, : inner[0], : inner[1]] = x if len(x) else 0
    return (padded > 0.5).byte() if fill is None else padded.round().clamp(0, 255).byte()


def objects_of(images: Instances, image: int | Pair, statistics: Statistics) -> Objects:
    """The objects of pictures, at one size. Those of fewer than :data:`LEAST` pixels are left out with a note, crowds without one.

    statistics: the mean fills the margins of pictures of another shape. Raises ValueError when no object is left.
    """
    fill = (255 * statistics[0]).round()
    pixels, maps, kept, small = [], [], [], 0
    for i in range(len(images)):
        target = images.target(i)
        pixels.append(letterbox(images.read(i), image, fill))
        masks = letterbox(target["masks"][~target["crowd"]], image).bool()
        maps.append(torch.zeros(pair(image), dtype=torch.int16))
        for k in masks.sum((1, 2)).argsort(descending=True).tolist():  # small ones are in front
            maps[i][masks[k]] = k + 1
        areas = torch.bincount(maps[i].flatten().long(), minlength=len(masks) + 1)[1:]
        small += int((areas < LEAST).sum())
        kept += [(i, k + 1) for k in (areas >= LEAST).nonzero()[:, 0].tolist()]
    if not kept:
        raise ValueError(f"{images.name} has no object of at least {LEAST} pixels at the model's image size: give a larger --image")
    note = f"{images.name}: left out {small:,} of {small + len(kept):,} objects, with fewer than {LEAST} pixels at the model's image size"
    picture, number = torch.tensor(kept).unbind(1)
    return Objects(
        name=images.name, pixels=torch.stack(pixels), maps=torch.stack(maps), picture=picture, number=number,
        ids=images.ids[picture] * FAR + number, notes=(*images.notes, *([note] if small else [])),
    )  # fmt: skip
