"""Mask R-CNN on a plain ViT: torchvision's proposals and heads on the maps of a simple feature pyramid (after ViTDet)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ..data.objects import fitting_scale
from ..data.optional import need
from ..data.types import Statistics
from ..model.patches import pair
from ..model.vit import Encoder
from .detect_recipe import Detect
from .maps import for_maps, spatial_maps
from .pyramid import Norm2d, Pyramid

SIDES = (0.5, 1.0, 2.0)  # height over width of an anchor


class Detector(nn.Module):
    """An encoder, a pyramid, and torchvision's region proposals and heads.

    Training: pictures and targets → a dictionary of losses. Evaluation: pictures → for each a dictionary of boxes ``k 4`` (left, top,
    right, bottom in its own pixels), labels ``k`` (1 … classes), scores ``k`` and masks ``k 1 height width`` (probabilities).

    Pictures are a list of float tensors ``c height width`` in [0, 1]: in training as large as the recipe's ``image``, otherwise of any
    sizes, and resized so that the longer side has ``image`` pixels. They are normalised by ``statistics``, those of the encoder; the
    rest of the square is filled with the mean. Targets have boxes float32 ``k 4``, labels int64 ``k`` and masks uint8 ``k height width``.
    Raises ValueError for patches that are not square or not a power of two.
    """

    def __init__(self, encoder: Encoder, classes: int, statistics: Statistics, recipe: Detect) -> None:
        super().__init__()
        p1, p2 = pair(encoder.size.patch)
        if p1 != p2 or math.log2(p1) % 1 or recipe.image % p1:
            raise ValueError(f"a detector takes square patches whose side is a power of two and divides its image, not {p1}×{p2}")
        self.encoder, self.recipe = for_maps(encoder, recipe.image).requires_grad_(not recipe.frozen), recipe
        self.encoder.spread_drop_path(recipe.drop_path)
        self.pyramid = Pyramid(encoder.size.width, p1, strides=recipe.strides, channels=recipe.channels)
        rcnn = mask_rcnn(self.pyramid, classes, statistics, recipe)
        self.transform, self.rpn, self.roi_heads = rcnn.transform, rcnn.rpn, rcnn.roi_heads

    def train(self, mode: bool = True) -> nn.Module:  # type: ignore[override]
        """As usual, but a frozen encoder stays in eval mode."""
        super().train(mode)
        self.encoder.train(mode and not self.recipe.frozen)
        return self

    def maps(self, images: Tensor) -> dict[str, Tensor]:
        """Normalised images ``b c height width`` → the pyramid's maps by their stride, and ``pool``, a coarser one for proposals."""
        r = self.recipe
        maps = self.pyramid(spatial_maps(self.encoder, images, window=r.window, full=r.full, recompute=r.recompute)[0])
        return {**maps, "pool": F.max_pool2d(list(maps.values())[-1], 1, stride=2)}

    def forward(self, pictures: Sequence[Tensor], targets: Any = None) -> Any:
        image = self.recipe.image
        for h, w in (picture.shape[-2:] for picture in pictures):
            if fitting_scale((h, w), image) * min(h, w) < 1:
                raise ValueError(f"a picture of {h}×{w} pixels is thinner than a pixel at {image}×{image}: cut it into shorter ones")
        images, targets = self.transform(pictures, targets)
        maps = self.maps(images.tensors)
        proposals, first = self.rpn(images, maps, targets)
        found, second = self.roi_heads(maps, proposals, images.image_sizes, targets)
        if self.training:
            return first | second
        return self.transform.postprocess(found, images.image_sizes, [tuple(picture.shape[-2:]) for picture in pictures])


def mask_rcnn(pyramid: Pyramid, classes: int, statistics: Statistics, recipe: Detect) -> Any:
    """torchvision's Mask R-CNN over a pyramid: the source of its proposals, heads and transform."""
    detection = need("torchvision.models.detection", why="detection")
    box, mask, channels, names = detection.faster_rcnn, detection.mask_rcnn, recipe.channels, list(pyramid.levels)
    levels = [*recipe.strides, recipe.coarsest]
    anchors = detection.anchor_utils.AnchorGenerator(tuple((round(recipe.anchors * s),) for s in levels), (SIDES,) * len(levels))
    convs = [channels] * recipe.box_convs
    linear = [recipe.box_width] * (1 if convs else 2)
    mean, std = (x.tolist() for x in statistics)
    return detection.MaskRCNN(
        pyramid, min_size=recipe.image, max_size=recipe.image, size_divisible=recipe.image, image_mean=mean, image_std=std,
        _skip_resize=True,  # in training: large_scale_jitter has cut them to size
        rpn_anchor_generator=anchors, rpn_head=detection.rpn.RPNHead(channels, len(SIDES), recipe.proposal_convs),
        box_roi_pool=roi_align(names, 7, recipe.strides), box_head=box.FastRCNNConvFCHead((channels, 7, 7), convs, linear, Norm2d),
        box_predictor=box.FastRCNNPredictor(recipe.box_width, 1 + classes),
        mask_roi_pool=roi_align(names, 14, recipe.strides), mask_head=mask.MaskRCNNHeads(channels, [channels] * 4, 1, Norm2d),
        mask_predictor=mask.MaskRCNNPredictor(channels, channels, 1 + classes),
        rpn_pre_nms_top_n_train=2 * recipe.proposals, rpn_pre_nms_top_n_test=2 * recipe.proposals,
        rpn_post_nms_top_n_train=recipe.proposals, rpn_post_nms_top_n_test=recipe.proposals,
        box_batch_size_per_image=recipe.rois, box_detections_per_img=recipe.detections,
    )  # fmt: skip


def roi_align(names: list[str], size: int, strides: Sequence[int]) -> Any:
    """The features of a region for a head, from the map that fits its size.

    torchvision would infer the strides from the first picture, and from its unpadded size, which is wrong for one that is not square.
    """
    poolers = need("torchvision.ops.poolers", why="detection")
    pool = poolers.MultiScaleRoIAlign(names, size, sampling_ratio=2)
    pool.scales = [1 / stride for stride in strides]
    pool.map_levels = poolers.initLevelMapper(int(math.log2(strides[0])), int(math.log2(strides[-1])))
    return pool
