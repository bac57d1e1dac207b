"""Options for watching a run while it trains, and the images that validate fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minimae_book.figures import reconstructions

from ..data.choose import held_out
from ..data.types import ImageDataset
from ..errors import MinimaeError
from ..model.sizes import Size
from ..tasks.evaluation import check_images
from ..tasks.pretrain import Pretrain
from ..tasks.reconstruct import TITLES
from ..tasks.watch import Kind, watch
from ..train.distributed import world
from .options import DataOptions


@dataclass(frozen=True, kw_only=True)
class WatchOptions:
    """What is measured while the model trains. The trained weights do not depend on it."""

    watch: tuple[Kind, ...] = ()
    """knn, probe: accuracy on test images; labels are used for these curves alone, never for training. rank: effective rank of the
    features (RankMe). validation: the loss of test images. reconstructions: a picture in the folder watch."""
    watch_every: float | None = None
    """Epochs between two measurements; by default a twentieth of the run."""
    watch_images: int = 2000
    """The largest number of training images, and of test images, used for watching."""

    def callbacks(
        self, recipe: Pretrain, size: Size, train: ImageDataset, test: ImageDataset | None, out: Path, where: DataOptions
    ) -> list[Any]:
        """The ``callbacks`` of :func:`minimae.tasks.pretrain.pretrain`; prints what is watched. Raises as :func:`watch` does."""
        if not self.watch:
            return []
        if self.watch_images < 1:
            raise ValueError(f"--watch-images must be at least 1, not {self.watch_images}")
        if recipe.shard and world().size > 1:
            raise MinimaeError("--watch needs a whole model in the first process: leave out --shard, or --watch")

        def draw(triplets: list[Any], name: str) -> None:
            (out / "watch").mkdir(exist_ok=True)
            reconstructions(triplets, TITLES, pairs=2).savefig(out / "watch" / f"{name}.png")

        every = recipe.epochs / 20 if self.watch_every is None else self.watch_every
        callback = watch(self.watch, size, train, test, every=every, images=self.watch_images, draw=draw, reading=where.reading)
        use = "; labels are used for these curves alone, never for training" if {"knn", "probe"} & set(self.watch) else ""
        print(f"watching {', '.join(self.watch)} every {every:g} epochs on {len(callback.held_out):,} test images{use}")
        return [callback]


def split_validation(
    option: str | None, train: ImageDataset, test: ImageDataset, where: DataOptions, *, seed: int, **given: Any
) -> tuple[ImageDataset, ImageDataset | None, str]:
    """Training images, validation images for ``--validation`` (None without it), and a description of them.

    Raises ValueError for a share that is not between 0 and 1, and for images that do not fit the training images.
    """
    if option is None:
        return train, None, ""
    if option == "test":
        return train, test, "the test images, as in the authors' code (the best epoch is then an optimistic choice: report the last)"
    try:
        share = float(option)
    except ValueError:
        try:
            validation = where.open(option, "test", **given)
        except FileNotFoundError:
            validation = where.open(option, "train", **given)
        check_images(train, validation, channels=train.channels, labelled=True)
        return train, validation, option
    assert train.labels is not None
    held = held_out(train.labels, share, seed=seed)
    if not held.any():
        raise ValueError("no class has two images, so none can be held out: give more --labels, or a folder to --validation")
    return train.subset(~held), train.subset(held), f"{int(held.sum()):,} of the {len(train):,} training images, held out"
