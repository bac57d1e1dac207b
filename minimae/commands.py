"""What each command does. A command is a dataclass: its fields are its options, their docstrings the help."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tyro.conf import OmitArgPrefixes, Positional

from . import data, weights
from .data.source import Images
from .demo import demo
from .errors import MinimaeError
from .options import Where, describe, new_run, pick_device
from .recipes import FEW_LABELS
from .report import picture, prepare, pretraining_parts, settings_parts, write_page
from .sizes import SIZES, flops, parameters, size
from .suggest import nearest
from .tasks.features import Pool, extract
from .tasks.finetune import Finetune, finetune, finetuned_accuracy
from .tasks.knn import accuracy, knn_predict
from .tasks.pretrain import Pretrain, Pretrained, pretrain
from .tasks.probe import probe_predict
from .tasks.reconstruct import fit_to_model, read_picture, reconstruct_batch


@dataclass(frozen=True, kw_only=True)
class PretrainCommand:
    """Pre-train a masked autoencoder from a named recipe: minimae pretrain RECIPE [--option …]."""

    recipe: OmitArgPrefixes[Pretrain]
    where: OmitArgPrefixes[Where] = field(default_factory=Where)
    out: Path | None = None
    """Folder for checkpoint, metrics, figures and report; by default runs/RECIPE."""
    resume: Path | None = None
    """Continue the run in this folder, with its own recipe."""

    def __call__(self) -> None:
        device = pick_device(self.where.device)
        out = self.resume or self.out or Path("runs") / "pretrain"
        new_run(out, self.resume is not None, f"--resume {out}")
        train = self.where.load(self.recipe.data, "train", image=self.recipe.image)
        resolved = self.recipe.size_for(train)
        cost = flops(resolved, self.recipe.ratio, mask_tokens_in_encoder=self.recipe.mask_tokens_in_encoder)
        steps = self.recipe.steps(len(train))
        total = cost.step * steps * self.recipe.batch * self.recipe.accumulate
        print(f"{self.recipe}\n{describe(train)}")
        print(f"{parameters(resolved)[0] / 1e6:.2f} M parameters in the encoder; {steps:,} steps, {total / 1e12:,.1f} TFLOP; to {out}")
        prepare(out, self.recipe, device)
        model, result = pretrain(self.recipe, train, out, resume=self.resume is not None, device=device)
        trained = Pretrained(model.cpu(), self.recipe, train.statistics)
        test = self.where.test_images(self.recipe.data, train, image=self.recipe.image)
        parts = pretraining_parts(out, trained, train, test, result)
        page = write_page(out, f"Pre-training on {train.name}", [*parts, *settings_parts(self.recipe, device)])
        print(f"loss {result.loss:.4f} after {result.seen:,} images in {result.seconds:.0f} s; open {page}")


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """A trained model and the labelled images to ask it about."""

    weights: Path
    """Shipped weights by name, a run folder, its checkpoint.pt, or a .safetensors file."""
    data: str | None = None
    """Data set or folder; by default the one the model was pre-trained on."""
    where: OmitArgPrefixes[Where] = field(default_factory=Where)

    def open(self) -> tuple[Pretrained, Images, Images]:
        trained = weights.load(self.weights)
        device = pick_device(self.where.device)
        trained.model.to(device)
        name = self.data or trained.recipe.data
        size_ = trained.model.size
        how = {"image": size_.image if isinstance(size_.image, int) else size_.image[0], "channels": size_.channels}
        how = how if size_.channels in (1, 3) else {"image": how["image"]}
        train, test = (self.where.load(name, split, **how) for split in ("train", "test"))
        for images in (train, test):
            if images.labels is None:
                raise ValueError(f"{images.name} has no labels; accuracy wants a folder for each class")
        return trained, train, test


@dataclass(frozen=True, kw_only=True)
class KnnCommand(Labelled):
    """k-nearest-neighbour accuracy on frozen features: nothing is trained."""

    k: int = 20
    pool: Pool = "mean"
    """mean or class token, the means after every block, or all tokens side by side."""

    def __call__(self) -> None:
        trained, train, test = self.open()
        encoder = trained.model.encoder
        features = [extract(encoder, images, trained.statistics, pool=self.pool) for images in (train, test)]
        assert train.labels is not None and test.labels is not None
        predicted = knn_predict(features[0], train.labels, features[1], k=self.k)
        print(f"{self.k}-NN, {self.pool} features: {accuracy(predicted, test.labels):.2f} % of {len(test):,} test images")


@dataclass(frozen=True, kw_only=True)
class ProbeCommand(Labelled):
    """Linear probe on cached features of the frozen encoder: the fast path, without augmentation."""

    pool: Pool = "tokens"
    """mean or class token, the means after every block, or all tokens side by side."""
    labels: int | None = None
    """Use this many labels only, the same number of each class."""

    def __call__(self) -> None:
        trained, train, test = self.open()
        train = train if self.labels is None else train.few(self.labels)
        encoder = trained.model.encoder
        features = [extract(encoder, images, trained.statistics, pool=self.pool) for images in (train, test)]
        assert train.labels is not None and test.labels is not None
        predicted, penalty = probe_predict(features[0], train.labels, features[1])
        score = accuracy(predicted, test.labels)
        print(
            f"linear probe, {self.pool} features, {len(train):,} labels (penalty {penalty:g}): {score:.2f} % of {len(test):,} test images"
        )


@dataclass(frozen=True, kw_only=True)
class FinetuneCommand(Labelled):
    """Fine-tune the whole encoder on labelled images, or train the same network from scratch."""

    recipe: OmitArgPrefixes[Finetune] = FEW_LABELS
    labels: int | None = None
    """Use this many labels only, the same number of each class."""
    scratch: bool = False
    """Forget the trained weights and start from the initial ones, with one lr for all layers by default."""
    out: Path | None = None
    """Folder for checkpoint and metrics; by default nothing is kept."""
    resume: bool = False
    """Continue the run in --out."""

    def __call__(self) -> None:
        trained, train, test = self.open()
        train = train if self.labels is None else train.few(self.labels, seed=self.recipe.seed)
        encoder = trained.model.encoder
        if self.scratch:
            torch.manual_seed(self.recipe.seed)
            encoder = type(encoder)(trained.model.size).to(next(encoder.parameters()).device)
        if self.out is not None:
            new_run(self.out, self.resume)
            prepare(self.out, self.recipe, pick_device(self.where.device))
        print(self.recipe)
        model, result = finetune(self.recipe, encoder, train, trained.statistics, self.out, resume=self.resume)
        score = finetuned_accuracy(model, test, trained.statistics)
        start = "from scratch" if self.scratch else "fine-tuned"
        print(f"{start} on {len(train):,} labels, {result.seconds:.0f} s: {score:.2f} % of {len(test):,} test images, last epoch")


@dataclass(frozen=True, kw_only=True)
class ReconstructCommand:
    """Hide most of your own picture and let a trained model paint it. Any size: the picture is resized to the model."""

    pictures: Positional[tuple[Path, ...]]
    """One image file or more."""
    weights: Path
    """Shipped weights by name, a run folder, its checkpoint.pt, or a .safetensors file."""
    ratio: float | None = None
    """Share of the patches to hide; by default the model's own."""
    seed: int = 0
    out: Path = Path("reconstruction.png")
    """Where the figure goes; with several pictures a number is added."""

    def __call__(self) -> None:
        trained = weights.load(self.weights)
        if trained.model.size.channels not in (1, 3):
            raise ValueError(f"this model takes {trained.model.size.channels} channels; pictures from files have 1 or 3")
        for i, path in enumerate(self.pictures):
            pixels = fit_to_model(read_picture(path, trained.model.size.channels), trained)
            fig, caption = reconstruct_batch(trained, pixels, seed=self.seed, ratio=self.ratio)
            target = self.out if len(self.pictures) == 1 else self.out.with_stem(f"{self.out.stem}-{i + 1}")
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                picture(fig, target, caption)
            except (OSError, ValueError) as error:
                raise MinimaeError(f"cannot write {target} ({error}); give another file with --out") from None
            print(f"{target}: {caption}")


@dataclass(frozen=True, kw_only=True)
class DataCommand:
    """List the data sets, or show (and fetch, with --download) one of them."""

    name: Positional[str] = ""
    """A data set or a folder; nothing lists them all."""
    image: int | None = None
    """Height and width in pixels, for sets of varied sizes."""
    where: OmitArgPrefixes[Where] = field(default_factory=Where)

    def __call__(self) -> None:
        if not self.name:
            for name, line in data.NAMES.items():
                print(f"{name:14}{line}")
            print("Any folder works too: FOLDER/train/CLASS/*.jpg and FOLDER/test/CLASS/*.jpg, FOLDER/CLASS/*.jpg, or pictures alone.")
            return
        for split in data.splits(self.name) if self.name in data.NAMES else ("train",):
            images = self.where.load(self.name, split, image=self.image)
            numbers = ", ".join(f"{m:.4f} ± {d:.4f}" for m, d in zip(*(x.tolist() for x in images.statistics), strict=True))
            print(f"{split}: {describe(images)}; mean ± deviation {numbers}")


@dataclass(frozen=True, kw_only=True)
class FlopsCommand:
    """Parameters and floating-point operations of a size: as the paper lays it out, and as this package computes it."""

    name: Positional[str]
    """A named size: nano, micro, tiny, small, base, large or huge; or all."""
    ratio: float = 0.75
    image: int | None = None
    patch: int | None = None

    def __call__(self) -> None:
        if self.name not in (*SIZES, "all"):
            raise ValueError(f"unknown size {self.name!r}{nearest(self.name, [*SIZES, 'all'])}")
        print("One multiply-add is 2 operations; matmuls only. A training step is three forwards less one patch projection.")
        heads = ("encoder", "with decoder", "encoder fwd", "decoder fwd", "step, paper", "step, here")
        print(f"{'size':8}{'image':>6}{'patch':>6}" + "".join(f"{head:>14}" for head in heads))
        for name in SIZES if self.name == "all" else (self.name,):
            s = size(name, **{k: v for k, v in (("image", self.image), ("patch", self.patch)) if v is not None})
            paper, here = flops(s, self.ratio, paper=True), flops(s, self.ratio)
            cells = [f"{count / 1e6:.2f} M" for count in parameters(s)]
            cells += [f"{v / 1e9:.{2 if v > 1e9 else 4}f} GF" for v in (paper.encoder, paper.decoder, paper.step, here.step)]
            print(f"{name:8}{s.image!s:>6}{s.patch!s:>6}" + "".join(f"{cell:>14}" for cell in cells))


@dataclass(frozen=True, kw_only=True)
class DemoCommand:
    """The main job: pre-train on the embedded photographs of clothes, look at what was learned, compare. About five minutes."""

    out: Path = Path("runs/demo")
    """Folder for checkpoint, metrics, figures and report."""
    seed: int = 0

    def __call__(self) -> None:
        demo(self.out, seed=self.seed)


COMMANDS: dict[str, type[Any]] = {
    "demo": DemoCommand,
    "pretrain": PretrainCommand,
    "knn": KnnCommand,
    "probe": ProbeCommand,
    "finetune": FinetuneCommand,
    "reconstruct": ReconstructCommand,
    "data": DataCommand,
    "flops": FlopsCommand,
}
