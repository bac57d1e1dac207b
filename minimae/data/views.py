"""How a part of an image becomes ``image`` pixels: the same on the host and on the device.

A view is a box (top, left, height, width) in the whole upright image, and the edges (top, left, bottom, right) of the pixels that the
resizing may use. A training crop uses its own pixels only; a view for evaluation uses all, as if the whole image were resized first.
"""

from __future__ import annotations

from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from ..devices import full_precision
from .augment import EVALUATION, middle_boxes, resize_matrix

CHUNK = 32  # rows that are resized on the device at once: float32 takes four times the memory of the pixels


def resize_on_host(picture: Any, box: list[float], edges: list[int], image: tuple[int, int]) -> Any:
    """A Pillow image → its view of ``image`` pixels in height and width: bicubic, antialiased."""
    from PIL import Image

    top, left, bottom, right = edges
    if [left, top, right, bottom] != [0, 0, *picture.size]:
        picture = picture.crop((left, top, right, bottom))
    y, x = max(0.0, box[0] - top), max(0.0, box[1] - left)
    inside = (x, y, min(float(right - left), x + box[3]), min(float(bottom - top), y + box[2]))
    return picture.resize((image[1], image[0]), Image.Resampling.BICUBIC, box=inside)


def evaluated(picture: Any, image: tuple[int, int]) -> Any:
    """A Pillow image → its view in evaluation, ``image`` pixels in height and width: the middle, 224/256 of a larger image (Table 9)."""
    size = (picture.height, picture.width)
    box = middle_boxes(torch.tensor([size]), image, share=EVALUATION)[0].tolist()
    return resize_on_host(picture, box, [0, 0, *size], image)


@torch.no_grad()
def resize_on_device(pixels: Tensor, boxes: Tensor, edges: Tensor, image: tuple[int, int]) -> Tensor:
    """Views of images padded to one size: uint8 ``b c height width``, boxes and edges ``b·r 4`` (``r`` views of each) → ``b·r c h w``.

    Equal to :func:`resize_on_host`, except that Pillow rounds to whole values between rows and columns. If only one of them changes, no
    value differs by more than 1 of 255; otherwise one in six differs by 1, and fewer than one in 50 by more (10 is the most seen).
    """
    repeats, (height, width) = len(boxes) // len(pixels), pixels.shape[-2:]
    boxes, edges = boxes.float(), edges.float()
    done = []
    with full_precision(pixels.device):
        for part, box, edge in zip(pixels.split(CHUNK), boxes.split(CHUNK * repeats), edges.split(CHUNK * repeats), strict=True):
            down = resize_matrix(box[:, 0], box[:, 2], height, image[0], edges=(edge[:, 0], edge[:, 2]))
            across = resize_matrix(box[:, 1], box[:, 3], width, image[1], edges=(edge[:, 1], edge[:, 3]))
            down, across = (rearrange(x, "(b r) t s -> b r 1 t s", r=repeats) for x in (down, across))
            views = (down @ part[:, None].float() @ across.transpose(-2, -1)).round_().clamp_(0, 255)
            done.append(rearrange(views, "b r c h w -> (b r) c h w").to(torch.uint8))
    return torch.cat(done)
