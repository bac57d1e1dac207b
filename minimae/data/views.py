"""Which part of an image is shown, and how that part becomes ``image`` pixels: the same on the host and on the device.

A view is a box (top, left, height, width) in the whole upright image, and the edges (top, left, bottom, right) of what the
resizing may look at. A training crop does not look beyond itself. A view for evaluation does, as when the whole image is resized first.
"""

from __future__ import annotations

from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from ..devices import full_precision
from .augment import EVALUATION, Augmentation, crop_boxes, middle_boxes, resize_matrix

CHUNK = 32  # rows that are resized on the device at once: float32 takes four times the memory of the pixels


def view_boxes(
    ids: Tensor, sizes: Tensor, epochs: Tensor, *, image: tuple[int, int], augmentation: Augmentation | None, seed: int
) -> Tensor:
    """Boxes of the views of these images: ids ``b``, sizes ``b 2``, epochs ``b`` → float32 ``b 4``.

    A random crop (:func:`minimae.data.augment.crop_boxes`, for each image's own size); without augmentation the part that is evaluated: the
    middle (:func:`minimae.data.augment.middle_boxes`), 224/256 of it where the image is larger than ``image``, as the paper evaluates.
    """
    if augmentation is None:
        return middle_boxes(sizes, image, share=EVALUATION)
    return crop_boxes(ids, sizes, augmentation, seed=seed, epoch=epochs, size=image)


def reduced(box: list[float], size: tuple[int, int], scale: int, *, beyond: bool) -> tuple[list[float], list[int]]:
    """A box in an image of ``size`` → the box and its edges in the image reduced by ``scale``. beyond: may look at the whole image."""
    height, width = (-(-side // scale) for side in size)
    top, left, tall, wide = (x / scale for x in box)
    if beyond:
        return [top, left, tall, wide], [0, 0, height, width]
    bottom, right = min(height, _ceil(top + tall)), min(width, _ceil(left + wide))
    return [top, left, tall, wide], [int(top), int(left), bottom, right]


def _ceil(x: float) -> int:
    return -int(-x // 1)


def resize_on_host(picture: Any, box: list[float], edges: list[int], image: tuple[int, int]) -> Any:
    """A Pillow image → the view of it, ``image`` pixels in height and width: bicubic, antialiased."""
    from PIL import Image

    top, left, bottom, right = edges
    if [left, top, right, bottom] != [0, 0, *picture.size]:
        picture = picture.crop((left, top, right, bottom))
    y, x = max(0.0, box[0] - top), max(0.0, box[1] - left)
    inside = (x, y, min(float(right - left), x + box[3]), min(float(bottom - top), y + box[2]))
    return picture.resize((image[1], image[0]), Image.Resampling.BICUBIC, box=inside)


def evaluated(picture: Any, image: tuple[int, int]) -> Any:
    """A Pillow image → what evaluation sees of it, ``image`` pixels in height and width: the middle, as :func:`view_boxes` cuts it.

    The same whether images are read from files or lie in memory.
    """
    size = (picture.height, picture.width)
    box = middle_boxes(torch.tensor([size]), image, share=EVALUATION)[0].tolist()
    return resize_on_host(picture, box, [0, 0, *size], image)


@torch.no_grad()
def resize_on_device(pixels: Tensor, boxes: Tensor, edges: Tensor, image: tuple[int, int]) -> Tensor:
    """Views of images padded to one size: uint8 ``b c height width``, boxes and edges ``b·r 4`` (``r`` views of each) → ``b·r c h w``.

    Equal to :func:`resize_on_host`, but Pillow rounds and clips to whole values between rows and columns. Where only one of them changes,
    no value differs by more than 1 of 255; where both do, one in six differs by 1, fewer than one in 50 by more (the more a picture is
    reduced, and beside black and white), and none was seen to differ by more than 10.
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
