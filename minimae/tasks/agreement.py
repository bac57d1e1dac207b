"""Check before the first step that training and test images fit the model and each other."""

from __future__ import annotations

from ..data.types import ImageDataset


def check_images(train: ImageDataset, test: ImageDataset, *, channels: int, labelled: bool = False) -> None:
    """Raises ValueError for images with other channels than the model's, and for labels that are missing or differ between the two.

    labelled: accuracy will be measured. Sizes need no check: evaluation resizes to the model's size.
    """
    for what, images in (("training", train), ("test", test)):
        if images.channels != channels:
            raise ValueError(f"the {what} images of {images.name} have {images.channels} channel(s), and the model takes {channels}")
        if labelled and images.labels is None:
            raise ValueError(f"{images.name} has no labels; accuracy needs one folder per class")
    if not labelled or train.labels is None or test.labels is None:
        return
    if train.classes != test.classes:
        differ = sorted(set(train.classes) ^ set(test.classes)) or ["none, but their order differs"]
        raise ValueError(f"the training and test images of {train.name} have other classes; only in one: {', '.join(differ[:10])}")
    known = max(len(train.classes), int(train.labels.max()) + 1)
    if (most := int(test.labels.max())) >= known:
        raise ValueError(f"the test images of {test.name} have the label {most}, and the training images only {known} classes, from 0")
