"""Dense transfer in its simplest form: one linear layer classifies every patch, on a frozen encoder (after Section 5, Table 5).

The paper trains whole segmenters on top of the encoder. A linear layer shows what the patch tokens themselves hold.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor

from minimae.data.augment import normalise
from minimae.data.shapes import Scenes
from minimae.model.patches import Pair, grid_of, pair, patchify
from minimae.model.vit import Encoder
from minimae.tasks.features import extract
from minimae.tasks.probe import probe_predict


def patch_classes(semantic: Tensor, patch: int | Pair, classes: int) -> Tensor:
    """The most frequent class of each patch: semantic masks ``b height width`` → int64 ``b n``; in a tie, the lower class."""
    inside = rearrange(semantic.long(), "b (h p1) (w p2) -> b (h w) (p1 p2)", p1=pair(patch)[0], p2=pair(patch)[1])
    return F.one_hot(inside, classes).sum(2).argmax(-1)


def mask_of_patches(classes: Tensor, image: Pair, patch: int | Pair) -> Tensor:
    """The class of every patch ``b n`` → the class of every pixel ``b height width``: all pixels of a patch get its class."""
    rows, columns = grid_of(image, patch)
    p1, p2 = pair(patch)
    return repeat(classes, "b (h w) -> b (h p1) (w p2)", h=rows, w=columns, p1=p1, p2=p2)


def mean_iou(predicted: Tensor, truth: Tensor, classes: int) -> float:
    """Intersection over union, averaged over the classes, in percent, for two masks of one shape.

    Pixels of all images are counted together. A class that is in neither mask is left out, as usual for the measure in Table 5.
    """
    if predicted.shape != truth.shape:
        raise ValueError(f"two masks of one shape are compared, not {tuple(predicted.shape)} and {tuple(truth.shape)}")
    predicted = predicted.to(truth.device)
    pairs = torch.bincount((truth.long() * classes + predicted.long()).flatten(), minlength=classes**2).view(classes, classes).double()
    both = pairs.diagonal()
    either = pairs.sum(0) + pairs.sum(1) - both
    return 100 * float((both / either)[either > 0].mean())


def patch_vectors(scenes: Scenes, statistics: tuple[Tensor, Tensor], patch: int | Pair, encoder: Encoder | None = None) -> Tensor:
    """One vector per patch, ``N n values``: the encoder's token after the last norm, or without an encoder the patch's own pixels."""
    if encoder is None:
        return patchify(normalise(scenes.pixels, statistics), patch)
    return rearrange(extract(encoder, scenes, statistics, pool="tokens"), "b (n d) -> b n d", d=encoder.size.width)


def segment_linearly(train: Tensor, scenes: Scenes, test: Tensor, patch: int | Pair) -> Tensor:
    """Learn from the vectors ``N n values`` of these scenes → masks ``M height width`` for the test vectors ``M n values``.

    The linear layer is solved to its optimum; its penalty is chosen on held-out patches (:func:`minimae.tasks.probe.probe_predict`).
    """
    classes = len(scenes.classes) + 1
    labels = patch_classes(scenes.semantic, patch, classes)
    predicted, _ = probe_predict(train.flatten(0, 1), labels.flatten(), test.flatten(0, 1))
    return mask_of_patches(predicted.unflatten(0, test.shape[:2]), scenes.image, patch)
