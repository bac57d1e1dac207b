"""Commands that show or write something: a reconstruction, a data set, a recipe, what a size costs; and the main job."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import OmitArgPrefixes, Positional, arg

from .. import data, weights
from ..errors import MinimaeError
from ..model.sizes import SIZES, flops, parameters, size
from ..recipes import describe as describe_recipe
from ..recipes import entry, listing
from ..suggest import nearest
from ..tasks.reconstruct import fit_to_model, read_picture
from ..train import threads
from ..weights.export import save_program
from .demo import demo
from .options import DataOptions, describe
from .report import picture, reconstruction_figure


@dataclass(frozen=True, kw_only=True)
class RecipesCommand:
    """List all recipes, with source, cost and the paper's result; or show one of them in full."""

    name: Positional[Annotated[str, arg(metavar="[RECIPE]")]] = ""
    """A recipe; nothing lists them all."""

    def __call__(self) -> None:
        print(describe_recipe(self.name) if self.name else listing())


@dataclass(frozen=True, kw_only=True)
class ExportCommand:
    """Write trained weights as one safetensors file that needs nothing beside it: minimae export RUN OUT.safetensors."""

    weights: Positional[Annotated[Path, arg(metavar="RUN")]]
    """A run folder of pre-training or fine-tuning, its checkpoint, or shipped weights by name."""
    out: Positional[Annotated[Path, arg(metavar="OUT")]]
    """The file to write."""
    half: bool = False
    """Half precision: half as large, and rounded."""

    def __call__(self) -> None:
        out = self.out if self.out.suffix else self.out.with_suffix(".safetensors")
        weights.save(weights.load(self.weights), out, half=self.half)
        print(f"{out}: {out.stat().st_size / 1e6:.1f} MB")


@dataclass(frozen=True, kw_only=True)
class ConvertCommand:
    """Write weights in another layout: minimae convert IN OUT --to official. OUT is a .pth or .safetensors file, or a folder."""

    weights: Positional[Annotated[str, arg(metavar="IN")]]
    """A name, a run folder, or a file or folder of another library; its layout is detected."""
    out: Positional[Annotated[Path, arg(metavar="OUT")]]
    """The file or folder to write."""
    to: Literal["minimae", "official", "huggingface", "timm", "program"]
    """official: the authors' code. huggingface: a folder for transformers. program: the encoder as .pt2 (torch.export) or .onnx."""
    encoder_only: bool = False
    """Leave the decoder out."""
    image: int | None = None
    """Another image size in pixels: positions are resized."""
    heads: int | None = None
    """Heads of the encoder, where the weights do not state them."""
    decoder_heads: int | None = None
    """Heads of the decoder, where the weights do not state them."""
    target: Literal["normalised", "pixels", "pca"] | None = None
    """What the decoder was trained to predict, where the weights do not state it: normalised by default."""
    key: str | None = None
    """Which weights to take from a file with several sets: model_ema, teacher …"""
    prefix: str | None = None
    """The prefix of the model's parameter names: backbone. …"""
    mean: tuple[float, ...] | None = None
    """Mean of each channel of the images in [0, 1], where the weights do not state it."""
    std: tuple[float, ...] | None = None
    """Standard deviation of each channel; with --mean."""
    pool: Literal["mean", "class", "tokens"] = "mean"
    """What a program gives: the mean of the patch tokens, the class token, or all tokens."""
    strict: bool = True
    """Refuse weights in which something is missing or left over."""

    def __call__(self) -> None:
        if (self.mean is None) != (self.std is None):
            raise ValueError("--mean and --std belong together: give both, with one number for each channel")
        given = {name: getattr(self, name) for name in ("image", "heads", "decoder_heads", "target", "key", "prefix")}
        given["statistics"] = None if self.mean is None else (self.mean, self.std)
        options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        trained = weights.load(self.weights, strict=self.strict, **options)
        if self.to == "program":
            save_program(trained, self.out, pool=self.pool)
        else:
            weights.save(trained, self.out, self.to, encoder_only=self.encoder_only)
        size = sum(path.stat().st_size for path in ([self.out] if self.out.is_file() else self.out.iterdir()))
        print(f"{self.out}: {size / 1e6:.1f} MB")


@dataclass(frozen=True, kw_only=True)
class ReconstructCommand:
    """Hide most of your own picture and let a trained model paint it. Any size: the picture is resized to the model."""

    pictures: Positional[Annotated[tuple[Path, ...], arg(metavar="PICTURE [PICTURE …]")]]
    """One image file or more."""
    weights: Path
    """Shipped weights by name, a run folder, its checkpoint.pt, or a .safetensors file."""
    ratio: float | None = None
    """Share of the patches to hide; by default the model's own."""
    seed: int = 0
    """Decides which patches are hidden."""
    bits: int | None = None
    """Bits used by a picture of more than 8 bits: 12 for many microscopes and X-rays. By default what the file states."""
    out: Path = Path("reconstruction.png")
    """Where the figure goes; with several pictures a number is added."""

    def __call__(self) -> None:
        if not self.pictures:
            raise ValueError(f"name a picture: minimae reconstruct PICTURE --weights {self.weights}")
        trained = weights.load_pretrained(self.weights)
        threads.in_this_process(trained.model.size, device="cpu")
        if trained.model.size.channels not in (1, 3):
            raise ValueError(f"this model takes {trained.model.size.channels} channels; pictures from files have 1 or 3")
        out = self.out if self.out.suffix else self.out.with_suffix(".png")
        for i, path in enumerate(self.pictures):
            pixels = fit_to_model(read_picture(path, trained.model.size.channels, bits=self.bits), trained)
            fig, caption = reconstruction_figure(trained, pixels, seed=self.seed, ratio=self.ratio)
            target = out if len(self.pictures) == 1 else out.with_stem(f"{out.stem}-{i + 1}")
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                picture(fig, target, caption)
            except (OSError, ValueError) as error:
                raise MinimaeError(f"cannot write {target} ({error}); give another file with --out") from None
            print(f"{target}: {caption}")


@dataclass(frozen=True, kw_only=True)
class DataCommand:
    """List the data sets, or show (and fetch, with --download) one of them."""

    name: Positional[Annotated[str, arg(metavar="[NAME]")]] = ""
    """A data set or a folder; nothing lists them all."""
    image: int | None = None
    """Height and width in pixels, for the sets that are drawn: photos, shapes."""
    where: OmitArgPrefixes[DataOptions] = field(default_factory=DataOptions)

    def __call__(self) -> None:
        if not self.name:
            for name, line in data.NAMES.items():
                print(f"{name:14}{line}")
            print("Any folder works too: FOLDER/train/CLASS/*.jpg and FOLDER/test/CLASS/*.jpg, FOLDER/CLASS/*.jpg, or pictures alone.")
            return
        for split in data.splits(self.name) if self.name in data.NAMES else ("train",):
            images = self.where.open(self.name, split, image=self.image)
            numbers = ", ".join(f"{m:.4f} ± {d:.4f}" for m, d in zip(*(x.tolist() for x in images.statistics), strict=True))
            print(f"{split}: {describe(images)}; mean ± std {numbers}")


@dataclass(frozen=True, kw_only=True)
class FlopsCommand:
    """Parameters and floating-point operations of a size: as the paper lays it out, and as this package computes it."""

    name: Positional[Annotated[str, arg(metavar="SIZE")]]
    """A named size: nano, micro, tiny, small, base, large or huge; or all."""
    ratio: float = 0.75
    """Share of the patches that is hidden, between 0 and 1."""
    image: int | None = None
    """Another height and width of the image in pixels."""
    patch: int | None = None
    """Another height and width of a patch in pixels."""

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
    """Decides the initial weights, the order of the images and the masks."""

    def __call__(self) -> None:
        main_job = entry("fashion-demo")
        threads.in_this_process(main_job.size, main_job.recipe, device="cpu")
        demo(self.out, seed=self.seed)
