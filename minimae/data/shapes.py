"""Drawn scenes with class labels, semantic masks, instance masks and boxes, for dense tasks.

A scene holds two to five shapes over a textured background; a later shape covers an earlier one. It is a pure function of
(seed, sample id, size). Each outline is a signed distance, so masks are exact and edges are smooth.
Computed in float64, so that no rounding depends on how many scenes are drawn together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from torch import Tensor

from ..random import uniforms
from .choose import as_index
from .images import Images

HOLE, NOTCH, BAR = 0.52, 0.45, 0.3  # inner radius of the ring, radius of the star's notches, half the width of the cross's bars
REACH = math.sqrt(1 - BAR**2)  # half the length of those bars
COUNTS = {"train": 2_000, "test": 500}
TEST_IDS = 1_000_000_000  # sample ids of test scenes start here: no scene is in both splits
TOGETHER = 128  # scenes drawn at a time

# Five shapes in drawing order. The fourth is the largest and always present, the fifth always lies on top; the first three may be
# missing. Only one small shape can cover the large one, so the largest visible shape, which gives the label, is beyond doubt.
PLACES, LARGE = 5, 3
LARGE_AREA, SMALL_AREA = (0.12, 0.20), (0.025, 0.05)  # shares of the image
VISIBLE = 0.3  # a shape of which less than this share would be visible is not drawn
TRIES = 6  # positions tried for each shape; the one farthest from the others is taken
LOOK = 12  # random numbers for a shape besides its positions, and for the background


def _star(x: Tensor, y: Tensor) -> Tensor:
    """A star of five points: folded into one of ten equal wedges, its outline is a straight line from tip to notch."""
    fifth = math.tau / 5
    angle = torch.atan2(x, -y).remainder(fifth)
    angle, radius = torch.minimum(angle, fifth - angle), torch.hypot(x, y)
    from_tip, aside = radius * angle.cos() - 1, radius * angle.sin()
    run, rise = 1 - NOTCH * math.cos(fifth / 2), NOTCH * math.sin(fifth / 2)
    return (aside * run + from_tip * rise) / math.hypot(run, rise)


def _cross(x: Tensor, y: Tensor) -> Tensor:
    """Two bars of equal length at a right angle."""
    x, y = x.abs(), y.abs()
    return torch.minimum(torch.maximum(x - REACH, y - BAR), torch.maximum(x - BAR, y - REACH))


# Six shapes in the unit circle: the signed distance of a point (x to the right, y down) from the outline, negative inside, and the area,
# so that shapes of different kinds can be drawn equally large. Outside corners, the distance is to the extended line of the nearest edge.
OUTLINES: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], float]] = {
    "disc": (lambda x, y: torch.hypot(x, y) - 1, math.pi),
    "square": (lambda x, y: torch.maximum(x.abs(), y.abs()) - math.sqrt(0.5), 2.0),
    "triangle": (lambda x, y: torch.maximum(y, x.abs() * math.sqrt(0.75) - y / 2) - 0.5, math.sqrt(27) / 4),
    "star": (_star, 5 * NOTCH * math.sin(math.tau / 10)),
    "ring": (lambda x, y: (torch.hypot(x, y) - (1 + HOLE) / 2).abs() - (1 - HOLE) / 2, math.pi * (1 - HOLE**2)),
    "cross": (_cross, 4 * BAR * (2 * REACH - BAR)),
}
CLASSES = tuple(OUTLINES)


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Scenes(Images):
    """Images with masks and boxes. Of each shape only the visible part counts; k shapes in a scene, in drawing order.

    semantic: uint8 ``N h w`` (here rows and columns of pixels), 0 for background, label + 1 for a shape. instances: bool ``k h w`` each.
    boxes: float32 ``k 4`` each: left, top, right, bottom in pixels, right and bottom just beyond the last pixel, as in
    torchvision. object_labels: int64 ``k`` each. The label of a scene is the kind of its largest shape.
    """

    semantic: Tensor
    instances: Sequence[Tensor]
    boxes: Sequence[Tensor]
    object_labels: Sequence[Tensor]

    def subset(self, index: Tensor | Sequence[int]) -> Scenes:
        chosen = as_index(index, len(self))
        changes: dict[str, Any] = {key: getattr(self, key)[chosen] for key in ("pixels", "labels", "ids", "semantic")}
        for key in ("instances", "boxes", "object_labels"):
            changes[key] = [getattr(self, key)[i] for i in chosen.tolist()]
        return replace(self, **changes)

    def detection_target(self, i: int) -> dict[str, Tensor]:
        """The target of torchvision's detectors for scene ``i``: boxes, labels (from 1: 0 is their background), masks uint8 ``k h w``."""
        return {"boxes": self.boxes[i], "labels": self.object_labels[i] + 1, "masks": self.instances[i].byte()}


class Plan(NamedTuple):
    """The content of scenes: kind, present, radius, x, y ``b p`` for the p shapes of each, in shares of the image's side."""

    kind: Tensor
    present: Tensor
    radius: Tensor
    x: Tensor
    y: Tensor
    look: Tensor  # b p LOOK: rotation, colours and texture
    backdrop: Tensor  # b LOOK


def plan(ids: Tensor, *, seed: int = 0) -> Plan:
    """Choose kinds, sizes and positions for the scenes with these sample ids ``b``."""
    u = uniforms(seed, "shapes", 0, ids, PLACES * (LOOK + 2 * TRIES) + LOOK).double()
    backdrop, u = u[:, :LOOK], rearrange(u[:, LOOK:], "b (p v) -> b p v", p=PLACES)
    look, spots = u[..., :LOOK], rearrange(u[..., LOOK:], "b p (tries two) -> two b p tries", two=2)
    others = (4 * backdrop[:, :1]).floor()  # 0 to 3 besides the two that are always present
    present = (torch.arange(PLACES) < others) | (torch.arange(PLACES) >= LARGE)
    kind = (len(CLASSES) * look[..., 0]).long()
    low, high = (torch.tensor([LARGE_AREA[end] if p == LARGE else SMALL_AREA[end] for p in range(PLACES)]) for end in (0, 1))
    area = low + (high - low) * look[..., 1]
    radius = (area / torch.tensor([unit for _, unit in OUTLINES.values()], dtype=torch.float64)[kind]).sqrt()
    x, y = (radius[..., None] + (1 - 2 * radius[..., None]) * s for s in spots)
    chosen = torch.zeros_like(kind)
    placed: list[int] = []
    for p in (LARGE, *(p for p in reversed(range(PLACES)) if p != LARGE)):
        gap = torch.full_like(x[:, p], math.inf)
        for q in placed:
            xq, yq = (v[:, q].gather(1, chosen[:, q, None]) for v in (x, y))
            between = torch.hypot(x[:, p] - xq, y[:, p] - yq) - radius[:, q, None]
            gap = torch.where(present[:, q, None], torch.minimum(gap, between), gap)
        chosen[:, p] = gap.argmax(1)
        placed.append(p)
    x, y = (v.gather(2, chosen[..., None])[..., 0] for v in (x, y))
    return Plan(kind, present, radius, x, y, look, backdrop)


def distances(scene: Plan, image: int) -> tuple[Tensor, Tensor, Tensor]:
    """Signed distance in pixels of each pixel to each outline, and coordinates in pixels that rotate with the shape: three ``b p h w``."""
    pixel = (torch.arange(image, dtype=torch.float64) + 0.5) / image
    dx, dy = pixel - scene.x[..., None, None], pixel[:, None] - scene.y[..., None, None]
    turn = math.tau * scene.look[..., 2, None, None]
    across, down = dx * turn.cos() + dy * turn.sin(), dy * turn.cos() - dx * turn.sin()
    away = torch.full_like(across, math.inf)
    for kind, (outline, _) in enumerate(OUTLINES.values()):
        these = (scene.kind == kind) & scene.present
        r = scene.radius[these][:, None, None]
        away[these] = outline(across[these] / r, down[these] / r) * r * image
    return away, across * image, down * image


def visible(inside: Tensor) -> Tensor:
    """Shapes ``b p h w``, later ones on top → the visible part of each."""
    above = inside.flip(1).cumsum(1).flip(1)  # shapes that cover a pixel, this one included
    return inside & (above == 1)


def colour(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """Hue (in turns), saturation and value in [0, 1], each ``b`` → RGB ``b 3 1 1``."""
    k = (torch.tensor([5.0, 3.0, 1.0]) + 6 * hue[:, None]) % 6
    return (value[:, None] * (1 - saturation[:, None] * torch.minimum(k, 4 - k).clamp(0, 1)))[:, :, None, None]


def background(u: Tensor, image: int) -> Tensor:
    """A gradient between two muted colours with a soft woven texture: numbers ``b LOOK`` → ``b 3 h w`` in [0, 1]."""
    pixel = (torch.arange(image, dtype=torch.float64) + 0.5) / image
    u = u[:, :, None, None]

    def waves(turn: Tensor, cycles: Tensor) -> Tensor:
        return torch.sin(math.tau * (cycles * (pixel * (math.tau * turn).cos() + pixel[:, None] * (math.tau * turn).sin()) + turn))

    blend = 0.5 + 0.5 * waves(u[:, 1], 0.3 + 0.4 * u[:, 2]) + 0.16 * waves(u[:, 3], 2 + 3 * u[:, 4]) * waves(u[:, 5], 2 + 3 * u[:, 6])
    u = u[..., 0, 0]
    first = colour(u[:, 7], 0.15 + 0.3 * u[:, 8], 0.3 + 0.6 * u[:, 9])
    second = colour(u[:, 7] + 0.25 * u[:, 10], 0.15 + 0.3 * u[:, 10], 0.3 + 0.6 * u[:, 11])
    return first + blend[:, None] * (second - first)


def draw_shape(canvas: Tensor, away: Tensor, across: Tensor, down: Tensor, look: Tensor, image: int) -> Tensor:
    """One shape over the canvas ``b 3 h w``: a soft shadow, then two colours in stripes, checks, dots, a gradient or plain, and a rim."""
    u, unit = look[:, :, None, None], image / 64
    offset = max(1, round(1.5 * unit))
    shadow = F.pad((0.5 - away / (6 * unit)).clamp(0, 1), (offset, 0, offset, 0))[:, :image, :image]
    canvas = canvas * (1 - 0.4 * shadow[:, None])
    pattern, period = (5 * u[:, 3]).floor(), (5 + 4 * u[:, 4]) * unit
    period = torch.where(pattern == 4, 40 * unit, period)  # a gradient is a very wide stripe
    woven = (pattern == 2) | (pattern == 3)
    wave = torch.sin(math.tau * (across / period + u[:, 5])) * torch.where(woven, torch.sin(math.tau * down / period), 1.0)
    mix = torch.sigmoid(torch.where(pattern == 3, 9 * (wave - 0.3), torch.where(pattern == 4, 2.0, 6.0) * wave))
    mix = torch.where(pattern == 0, 0.0, mix)
    first = colour(look[:, 6], 0.55 + 0.45 * look[:, 7], 0.65 + 0.35 * look[:, 8])
    second = colour(look[:, 6] + 0.08 + 0.5 * look[:, 9], 0.3 + 0.6 * look[:, 10], 0.45 + 0.55 * look[:, 11])
    rim = 0.45 * (1 + away / (1.6 * unit)).clamp(0, 1)
    body = (first + mix[:, None] * (second - first)) * (1 - rim[:, None])
    return canvas + (0.5 - away).clamp(0, 1)[:, None] * (body - canvas)


def draw(ids: Tensor, image: int = 64, *, seed: int = 0) -> Scenes:
    """The scenes with these sample ids ``b``, ``image`` × ``image`` pixels each. Other ids in the same call make no difference."""
    scene = plan(ids, seed=seed)
    away, across, down = distances(scene, image)
    inside = away < 0
    share = reduce(visible(inside).double(), "b p h w -> b p", "sum") / reduce(inside.double(), "b p h w -> b p", "sum").clamp(min=1)
    drawn = scene.present & (share >= VISIBLE)
    away = torch.where(drawn[..., None, None], away, math.inf)
    seen = visible(away < 0)
    canvas = background(scene.backdrop, image)
    for p in range(PLACES):
        rows = drawn[:, p]
        canvas[rows] = draw_shape(canvas[rows], away[rows, p], across[rows, p], down[rows, p], scene.look[rows, p], image)
    grain = rearrange(uniforms(seed, "shapes", 1, ids, image * image).double(), "b (h w) -> b 1 h w", h=image)
    largest = reduce(seen.double(), "b p h w -> b p", "sum").argmax(1, keepdim=True)
    return Scenes(
        name="shapes",
        pixels=((canvas + 0.04 * (grain - 0.5)).clamp(0, 1) * 255).round().byte(),
        labels=scene.kind.gather(1, largest)[:, 0],
        classes=CLASSES,
        ids=ids,
        semantic=reduce(seen * (scene.kind + 1)[..., None, None], "b p h w -> b h w", "sum").byte(),
        instances=[s[p] for s, p in zip(seen, drawn, strict=True)],
        boxes=[b[p] for b, p in zip(boxes_of(seen), drawn, strict=True)],
        object_labels=[k[p] for k, p in zip(scene.kind, drawn, strict=True)],
    )


def boxes_of(masks: Tensor) -> Tensor:
    """Masks ``… h w`` → the boxes (left, top, right, bottom) around them, float32 ``… 4``; the last two just beyond the last pixel."""
    ends = []
    for line in (masks.any(-2), masks.any(-1)):  # columns, then rows
        line = line.byte()
        ends.append((line.argmax(-1), line.shape[-1] - line.flip(-1).argmax(-1)))
    (left, right), (top, bottom) = ends
    return torch.stack([left, top, right, bottom], dim=-1).float()


def shapes(count: int | None = None, image: int = 64, *, split: str = "train", seed: int = 0) -> Scenes:
    """``count`` scenes (default: 2,000 for train, 500 for test). Scene i is the same whatever the count."""
    if split not in COUNTS:
        raise ValueError(f"shapes has the splits {', '.join(COUNTS)}, not {split!r}")
    count = COUNTS[split] if count is None else count
    if count < 1 or image < 16:
        raise ValueError(f"count {count} must be at least 1, and image {image} at least 16 pixels to distinguish the shapes")
    ids = torch.arange(count) + (TEST_IDS if split == "test" else 0)
    parts = [draw(part, image, seed=seed) for part in ids.split(TOGETHER)]
    changes: dict[str, Any] = {key: torch.cat([getattr(part, key) for part in parts]) for key in ("pixels", "labels", "ids", "semantic")}
    for key in ("instances", "boxes", "object_labels"):
        changes[key] = [one for part in parts for one in getattr(part, key)]
    return replace(parts[0], **changes)
