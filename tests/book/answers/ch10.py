"""Classic wrong answers to the exercises of chapter 10. The solutions are taken from the notebook."""

from __future__ import annotations

import torch.nn.functional as F


def _mixed(first, second, share, classes):
    return share[:, None] * F.one_hot(first, classes) + (1 - share[:, None]) * F.one_hot(second, classes)


def _others_only(first, second, share, classes, smoothing):
    hard = _mixed(first, second, share, classes)
    return hard * (1 - smoothing) + smoothing / (classes - 1) * (hard == 0)


def _paste(images, box, order, share=1 - 10 / 48):
    top, left, bottom, right = box
    made = images.clone()
    made[:, :, top:bottom, left:right] = images[order][:, :, top:bottom, left:right]
    return made, share


def _in_place(images, box):
    top, left, bottom, right = box
    images[:, :, top:bottom, left:right] = images[[1, 0, 3, 2]][:, :, top:bottom, left:right]
    return images, 1 - 10 / 48


ANSWERS = {
    "ch10_layer_lr": {
        "wrong": {
            "upside down": (lambda lr, i, d, k: lr * k**i, "upside down"),
            "one too few": (lambda lr, i, d, k: lr * k ** (d - i), "one too few"),
            "a product": (lambda lr, i, d, k: lr * k * (d + 1 - i), "a power"),
            "the share": (lambda lr, i, d, k: k ** (d + 1 - i), "multiply it by lr"),
        }
    },
    "ch10_mixed_labels": {
        "wrong": {
            "not smoothed": (lambda a, b, s, c, e: _mixed(a, b, s, c), "not smoothed"),
            "exchanged": (lambda a, b, s, c, e: _mixed(b, a, s, c) * (1 - e) + e / c, "exchanged"),
            "the others only": (_others_only, "the right one included"),
            "sum": (lambda a, b, s, c, e: _mixed(a, b, s, c) + e / c, "sum to 1"),
        }
    },
    "ch10_paste": {
        "wrong": {
            "a ring": (lambda x, box: _paste(x, box, [3, 0, 1, 2]), "ring"),
            "reversed": (lambda x, box: _paste(x, box, [3, 2, 1, 0]), "reversed"),
            "rows and columns": (lambda x, box: _paste(x, (box[1], box[0], box[3], box[2]), [1, 0, 3, 2]), "exchanged"),
            "the other share": (lambda x, box: _paste(x, box, [1, 0, 3, 2], 10 / 48), "share of the rectangle"),
            "in place": (_in_place, "clone"),
        }
    },
}
