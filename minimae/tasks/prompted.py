"""Use a promptable segmenter: masks for a picture of any size, and how good they are after each click, and for a box."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.augment import normalise
from ..data.objects import Objects, fitting_scale, letterbox
from ..data.types import Statistics
from ..devices import device_of
from ..model.patches import Pair, pair
from ..train.distributed import gather_rows, world
from ..train.precision import evaluating
from ..train.threads import inference
from .clicks import box_prompt, next_click
from .prompt import encoded, overlap
from .promptable import BOTTOM_RIGHT, NEGATIVE, POSITIVE, TOP_LEFT, Masks, Promptable, Prompts

TOGETHER = 64  # objects of a forward pass
Box = tuple[float, float, float, float]  # left, top, right, bottom
Point = tuple[float, float]  # x to the right, y down


@dataclass(frozen=True, eq=False)
class PromptScores:
    """IoU in [0, 1] of M objects with each of p prompts: two float32 ``M p``.

    prompts: their names, "1 click", "2 clicks" …, "box". picked: for the mask that the model expects to be best.
    best: for the one that really is.
    """

    prompts: tuple[str, ...]
    picked: Tensor
    best: Tensor

    def means(self) -> dict[str, float]:
        """Means over the objects in percent, by name: "1 click", "1 click, best of three", …"""
        rows = ((self.picked, ""), (self.best, ", best of three"))
        return {f"{name}{what}": 100 * float(v) for values, what in rows for name, v in zip(self.prompts, values.mean(0), strict=True)}

    def __str__(self) -> str:
        means = self.means()
        cells = (f"{name} {means[name]:.1f} % (best of three {means[f'{name}, best of three']:.1f} %)" for name in self.prompts)
        return ", ".join(cells)


@torch.no_grad()
def evaluate_prompts(model: Promptable, objects: Objects, statistics: Statistics, *, clicks: int = 3) -> PromptScores:
    """The IoU of every object, prompted by a simulated user (:func:`rounds`).

    Several processes share the objects; the first one gets all scores, in order.
    """
    device, process = device_of(model), world()
    mine = torch.arange(process.rank, len(objects), process.size)
    objects, rows = objects.to(device), [torch.empty(0, 2, clicks + 1)]
    with inference(model):
        patches = encoded(model, objects.pixels, statistics)
        for index in mine.to(device).split(TOGETHER):
            masks, scores = objects.masks(index), []
            for _, out in rounds(model, patches[objects.picture[index]], masks, clicks):
                each = overlap(out.inside(objects.image), masks)
                scores.append(torch.stack([each.gather(1, out.picked[:, None])[:, 0], each.amax(1)], dim=1))
            rows.append(torch.stack(scores, dim=2).cpu())
    gathered, order = gather_rows(torch.cat(rows)), gather_rows(mine).argsort()
    return PromptScores(names_of(clicks), gathered[order, 0], gathered[order, 1])


def names_of(clicks: int) -> tuple[str, ...]:
    """The names of the prompts of :func:`rounds`."""
    return (*(f"{i} click{'s' * (i > 1)}" for i in range(1, clicks + 1)), "box")


@torch.no_grad()
def rounds(model: Promptable, patches: Tensor, masks: Tensor, clicks: int) -> Iterator[tuple[Prompts, Masks]]:
    """Prompt for objects, masks bool ``b height width`` in images with these patches: after each click, and finally for a box alone.

    The first click is in the middle of the object, and each later one in the middle of the largest mistake of the picked mask.
    """
    model.eval()
    prompts = next_click(masks)
    for click in range(clicks + 1):
        if click == clicks:
            prompts = box_prompt(masks)
        with evaluating(patches.device):
            out = model(patches, prompts)
        yield prompts, out
        prompts += next_click(masks, out.chosen((masks.shape[1], masks.shape[2])))


def prompts_of(points: list[Point], negative: list[Point], box: Box | None, size: Pair) -> Prompts:
    """Clicks inside and outside an object, and a box around it, in pixels of a picture of ``size`` (height, width).

    Raises ValueError when there are none, for points outside the picture, and for a box without an area.
    """
    (height, width), corners = size, [] if box is None else [(box[0], box[1]), (box[2], box[3])]
    if not (points or negative or corners):
        raise ValueError("no prompt was given: give a point inside the object (--point x,y), or a box (--box x0,y0,x1,y1)")
    if not (points or corners):
        raise ValueError("negative points alone do not say where the object is: give a point inside it too (--point x,y), or a box")
    for what, some in (("point", [*points, *negative]), ("corner of the box", corners)):
        for x, y in some:
            if not (0 <= x <= width and 0 <= y <= height):
                wanted = f"x from 0 to {width}, y from 0 to {height}"
                raise ValueError(f"the {what} {x:g},{y:g} is outside the picture, which has {width} × {height} pixels: {wanted}")
    if box is not None and not (box[0] < box[2] and box[1] < box[3]):
        raise ValueError(f"a box is left,top,right,bottom with left < right and top < bottom, not {','.join(f'{v:g}' for v in box)}")
    kinds = [POSITIVE] * len(points) + [NEGATIVE] * len(negative) + [TOP_LEFT, BOTTOM_RIGHT] * (box is not None)
    return Prompts(torch.tensor([[*points, *negative, *corners]], dtype=torch.float32), torch.tensor([kinds]))


@torch.no_grad()
def predict_masks(model: Promptable, pixels: Tensor, prompts: Prompts, statistics: Statistics) -> tuple[Tensor, Tensor]:
    """A picture uint8 ``c height width`` and prompts in its pixels ``1 p`` → three masks bool ``3 height width``, and their expected IoU.

    The mask with the highest expected IoU comes first.
    """
    device, image = device_of(model), pair(model.encoder.size.image)
    height, width = pixels.shape[1:]
    scale = fitting_scale((height, width), image)
    small = letterbox(pixels, image, 255 * statistics[0])
    model.eval()
    with inference(model), evaluating(device):
        out = model(normalise(small[None].to(device), statistics), Prompts((prompts.points * scale).to(device), prompts.kinds.to(device)))
    order = out.quality[0].argsort(descending=True)
    whole = F.interpolate(out.logits[:, order], size=image, mode="bilinear", align_corners=False)
    whole = whole[..., : max(1, round(height * scale)), : max(1, round(width * scale))]
    masks = F.interpolate(whole, size=(height, width), mode="bilinear", align_corners=False)[0] > 0
    return masks.cpu(), out.quality[0, order].cpu()
