"""Scenes of clothes with exact masks: photographs of Fashion-MNIST on a plain background. Chapter 12 segments them in seconds."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from minimae.data.images import Images
from minimae.data.shapes import LOOK, Scenes, background, boxes_of
from minimae.random import uniforms

SIDE, PHOTOGRAPH, FREE = 64, 28, 8  # sizes of a scene and a photograph in pixels; how far a photograph may move within its quarter
CLOTH = 12  # a pixel belongs to the garment above this brightness, out of 255
PRESENT = 0.75  # how often each quarter of a scene holds a garment; the first one always does


def wardrobe(clothes: Images, count: int, kinds: Sequence[str], *, seed: int = 0) -> Scenes:
    """``count`` grey scenes of 64 × 64 pixels, each with one to four garments of these kinds; later ones cover earlier ones.

    clothes: Fashion-MNIST at 28 pixels. Scene i is the same whatever the count.
    """
    assert clothes.labels is not None
    numbers = [clothes.classes.index(kind) for kind in kinds]
    chosen = clothes.subset([i for i, label in enumerate(clothes.labels.tolist()) if label in numbers])
    assert chosen.labels is not None
    ids = torch.arange(count)
    u = uniforms(seed, "shapes", 2, ids, 16 + LOOK)
    pixels = (255 * 0.3 * background(u[:, 16:].double(), SIDE).mean(1, keepdim=True)).byte()
    instances, kept = [], []
    for i, row in enumerate(u[:, :16].unflatten(1, (4, 4)).tolist()):
        masks, labels = torch.zeros(0, SIDE, SIDE, dtype=torch.bool), []
        for quarter, (present, which, down, right) in enumerate(row):
            if quarter and present > PRESENT:
                continue
            number = int(which * len(chosen))
            top, left = (28 * q + int(FREE * move + 0.5) for q, move in zip(divmod(quarter, 2), (down, right), strict=True))
            here = (..., slice(top, top + PHOTOGRAPH), slice(left, left + PHOTOGRAPH))
            photograph, mask = chosen.pixels[number, 0], torch.zeros(SIDE, SIDE, dtype=torch.bool)
            mask[here] = photograph > CLOTH
            pixels[i, 0][here] = torch.where(photograph > CLOTH, photograph, pixels[i, 0][here])
            masks = torch.cat([masks & ~mask, mask[None]])
            labels.append(numbers.index(int(chosen.labels[number])))
        instances.append(masks)
        kept.append(torch.tensor(labels))
    semantic = torch.stack([(m * (k + 1)[:, None, None]).sum(0) for m, k in zip(instances, kept, strict=True)]).byte()
    return Scenes(
        name="wardrobe", pixels=pixels, labels=torch.stack([k[0] for k in kept]), classes=tuple(kinds), ids=ids, semantic=semantic,
        instances=instances, boxes=[boxes_of(m) for m in instances], object_labels=kept,
    )  # fmt: skip
