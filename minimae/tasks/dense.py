"""Dense transfer in its simplest form: one linear head that names every patch, on a frozen encoder (after Section 5, Table 5).

The paper trains whole segmenters on top of the encoder. A linear head asks less of the head and more of the features: what does the
token of a patch know about the place that it stands for?
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor

from ..data.augment import normalise
from ..data.shapes import Scenes
from ..model.patches import Pair, grid_of, pair, patchify
from ..model.vit import Encoder
from .features import extract
from .probe import probe_predict


def patch_classes(semantic: Tensor, patch: int | Pair, classes: int) -> Tensor:
    """The class that most pixels of each patch have: semantic masks ``b height width`` → int64 ``b n``, the lower class in a tie."""
    inside = rearrange(semantic.long(), "b (h p1) (w p2) -> b (h w) (p1 p2)", p1=pair(patch)[0], p2=pair(patch)[1])
    return F.one_hot(inside, classes).sum(2).argmax(-1)


def paint_classes(named: Tensor, image: Pair, patch: int | Pair) -> Tensor:
    """The class of every patch ``b n`` → of every pixel ``b height width``: a patch is painted in one colour."""
    rows, columns = grid_of(image, patch)
    p1, p2 = pair(patch)
    return repeat(named, "b (h w) -> b (h p1) (w p2)", h=rows, w=columns, p1=p1, p2=p2)


def mean_iou(predicted: Tensor, truth: Tensor, classes: int) -> float:
    """Mean over the classes of intersection over union, in percent, for two masks of one shape.

    Pixels of all images are counted together, and a class that is in neither mask is left out: the usual reading of Table 5's measure.
    """
    if predicted.shape != truth.shape:
        raise ValueError(f"two masks of one shape are compared, not {tuple(predicted.shape)} and {tuple(truth.shape)}")
    predicted = predicted.to(truth.device)
    pairs = torch.bincount((truth.long() * classes + predicted.long()).flatten(), minlength=classes**2).view(classes, classes).double()
    both = pairs.diagonal()
    either = pairs.sum(0) + pairs.sum(1) - both
    return 100 * float((both / either)[either > 0].mean())


def patch_vectors(scenes: Scenes, statistics: tuple[Tensor, Tensor], patch: int | Pair, encoder: Encoder | None = None) -> Tensor:
    """One vector a patch, ``N n values``: the encoder's token after the last norm, or without an encoder the patch's own pixels."""
    if encoder is None:
        return patchify(normalise(scenes.pixels, statistics), patch)
    return rearrange(extract(encoder, scenes, statistics, pool="tokens"), "b (n d) -> b n d", d=encoder.size.width)


def segment_linearly(known: Tensor, scenes: Scenes, asked: Tensor, patch: int | Pair) -> Tensor:
    """Masks ``M height width`` for the vectors of other scenes, ``M n values``, after learning from ``N n values`` of these scenes.

    The linear layer is solved to its optimum, and its penalty is chosen on held-out patches (:func:`minimae.tasks.probe.probe_predict`).
    """
    classes = len(scenes.classes) + 1
    labels = patch_classes(scenes.semantic, patch, classes)
    named, _ = probe_predict(known.flatten(0, 1), labels.flatten(), asked.flatten(0, 1))
    return paint_classes(named.unflatten(0, asked.shape[:2]), scenes.image, patch)
