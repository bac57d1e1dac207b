"""Options that several commands share: images, weights, device, workers."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from tyro.conf import Positional, arg

from .. import data, weights
from ..data.folder import splits_of
from ..data.images import Images
from ..data.opening import ReadFrom
from ..data.types import ImageDataset, Statistics
from ..errors import MinimaeError, counted, reason
from ..model.patches import Pair
from ..tasks.loading import LoaderConfig
from ..train import distributed
from ..train.distributed import world
from ..train.folder import can_resume
from ..weights.facts import checked_statistics

RECIPE = "A recipe, or a file with one, as the first word; minimae recipes lists the recipes."
RecipeName = Positional[Annotated[str, arg(metavar="[RECIPE]", help=RECIPE)]]
DEVICES = ("cpu", "cuda", "mps", "xpu")


def pick_device(name: str) -> str:
    """The device of this name; auto is the GPU if there is one. Raises ValueError for a device that this machine does not have.

    GPUs are only counted: a process that uses the first one would keep some of its memory.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, number = name.partition(":")
    if kind not in DEVICES or (number and not number.isdecimal()):
        guess = "; did you mean 'cuda'?" if kind.lower() in ("gpu", "nvidia", "cuda") else "."
        raise ValueError(f"there is no device {name!r}{guess} Devices: auto, cpu, cuda, cuda:1, mps, xpu")
    try:
        if torch.cuda.is_available() and torch.device(name).type == "cuda":
            if (torch.device(name).index or 0) >= torch.cuda.device_count():
                raise RuntimeError(f"there are {torch.cuda.device_count()} GPUs here, counted from 0")
            return name
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"the device {name!r} cannot be used here ({reason(error)}); try --device cpu") from None
    return name


def resumes(out: Path, *, resume: bool, auto: bool = False, option: str = "--resume") -> bool:
    """Whether to resume the run in ``out``: on request, or after torchrun has restarted the processes of a machine.

    Raises MinimaeError, with the option that continues it, instead of writing over a run.
    """
    restarts = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
    [restarted] = distributed.all_reduce_mean(restarts > 0, device=torch.device("cpu"))
    if resume or not can_resume(out):
        return resume
    if auto or restarted:
        return True
    raise MinimaeError(f"{out} already holds a run: continue it with {option}, or choose another folder with --out")


def describe(images: ImageDataset) -> str:
    """A data set in one line."""
    kinds = f"{len(images.classes)} classes" if images.classes else "no labels"
    shape = " × ".join(map(str, images.read(0).shape)) if hasattr(images, "pixels") else "read as they are needed"
    return f"{images.name}: {getattr(images, 'counted', f'{len(images):,} images')}, {shape}, {kinds}"


def check_outside(out: Path | None, data: str | None) -> None:
    """Raises ValueError for the folder of a run among the pictures, where it would be taken for a class."""
    if out is None or not data:
        return
    folder, run = Path(data).resolve(), out.resolve()
    if folder.is_dir() and folder in (run, *run.parents) and not splits_of(folder):
        raise ValueError(f"{out} lies among the pictures of {data}, and would be taken for one of their classes: choose another --out")


def check_outputs(*files: Path, inputs: Sequence[Any] = ()) -> None:
    """Raises ValueError when a file to be written is one of the inputs, or the same as another."""
    taken = [Path(path).resolve() for path in inputs]
    for path in files:
        if path.resolve() in taken:
            raise ValueError(f"{path} would be overwritten, because it is an input or another output: choose another name for the output")
        taken.append(path.resolve())


def read_statistics(file: Path, channels: int) -> Statistics:
    """Mean and std of the training images, as ``minimae data NAME --statistics FILE`` wrote them. Raises MinimaeError for other files."""
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))["train"]
        return checked_statistics((stored["mean"], stored["std"]), channels)
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = f"{file} has no statistics for these images ({reason(error)})"
        raise MinimaeError(f"{why}: write it with minimae data NAME --statistics {file}") from None


@dataclass(frozen=True, kw_only=True)
class WeightsOptions:
    """How to read weights of another library, if the file does not state it."""

    heads: int | None = None  # Number of heads of the encoder, if the weights do not state it.
    key: str | None = None  # Which weights to read from a file with several models: model_ema, teacher …
    prefix: str | None = None  # The prefix of the model's parameter names, such as backbone.

    def load(self, source: str | Path, reader: Callable[..., Any] = weights.load, **more: Any) -> Any:
        """Weights read by :func:`minimae.weights.load` or another ``reader``, with these options and others; None leaves an option out."""
        return reader(source, **{name: value for name, value in {**asdict(self), **more}.items() if value is not None})


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """The source of the images, and the device of the model."""

    data_root: Path = data.DOWNLOADS  # Folder of downloaded data sets.
    download: bool = False  # Fetch the data set if it is missing.
    skip_corrupt: bool = False  # Leave damaged images out, and list them.
    limit: int | None = None  # Use at most this many images of each split.
    device: str = "auto"  # cpu, cuda, cuda:1 …; auto takes the GPU if there is one.
    read_from: ReadFrom = "auto"
    """Hold images in memory, or read their files when needed; this only changes the speed. auto holds images of one size in
    memory, up to 2 GB."""
    bits: int | None = None
    """Bits used by pictures of more than 8 bits, such as 12 for many microscopes and X-rays; by default as the file states."""
    workers: int | None = None
    """Processes that read images, for each training process; by default they share all cores of this machine."""
    crop_on: Literal["host", "device"] = "host"
    """Where streamed images are cropped: in the workers, or on the device, which needs fewer cores and sends more data to it."""

    @property
    def reading(self) -> LoaderConfig:
        """The options of the loader."""
        return LoaderConfig(workers=self.workers, crop_on=self.crop_on, skip_corrupt=self.skip_corrupt)

    def join(self) -> str:
        """Join the other processes, if torchrun started this one; → the device of this process."""
        return distributed.join(os.environ, pick_device(self.device))

    def open(
        self, name: str, split: str, *, image: int | Pair | None = None, channels: int | None = None, labelled: bool = False
    ) -> ImageDataset:
        """Open a data set, see :func:`minimae.data.open_images`; prints once what was left out or held out.

        labelled: for an evaluation, which needs test images.
        """
        if not name:
            raise ValueError("no images are named: name a data set or a folder with --data")
        folder: str | Path = name
        if name == "imagenet":
            folder = self.data_root / name
            if not folder.is_dir():
                raise MinimaeError(f"ImageNet is not at {folder}: name its folder (with train and val in it), or its shards, with --data")
        given: dict[str, Any] = {name: getattr(self, name) for name in ("bits", "limit", "read_from", "download", "skip_corrupt")}
        given |= {"image": image, "channels": channels, "labelled": labelled}
        images = data.open_images(folder, split, root=self.data_root, **given)
        if world().main and (split == "test" or not labelled):
            print(*images.notes, sep="\n", end="\n" * bool(images.notes))
        if isinstance(images, Images) and images.skipped:
            print(f"{name} ({split}): left out {counted(len(images.skipped), 'damaged file')}:", *images.skipped[:20], sep="\n  ")
        return images

    def test_images(self, name: str, train: ImageDataset, **given: Any) -> ImageDataset:
        """The test split; if a folder has none, the training images, with a note. Raises as :meth:`open`.

        If the training images have no labels, those of the test images do not matter.
        """
        try:
            return self.open(name, "test", **given)
        except (FileNotFoundError, ValueError) as error:
            if train.labels is not None and not isinstance(error, FileNotFoundError):
                raise
            print(f"no test images ({error}); showing training images instead")
            return train
