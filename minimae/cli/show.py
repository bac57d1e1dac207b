"""Commands that show something: recipes, a reconstruction, the cost of a size."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from tyro.conf import OmitArgPrefixes, Positional, arg

from ..errors import MinimaeError, nearest
from ..model.sizes import SIZES, flops, parameters, size
from ..recipes import describe, entry, listing, write_recipe
from ..tasks.reconstruct import fit_to_model, read_picture
from ..train import threads
from ..weights import load_pretrained
from .commands import command_for
from .options import WeightsOptions
from .report import picture, reconstruction_figure


@dataclass(frozen=True, kw_only=True)
class RecipesCommand:
    """List all recipes, with source, cost and the paper's result; or show one of them in full."""

    name: Positional[Annotated[str, arg(metavar="[RECIPE]")]] = ""  # A recipe; without one, all are listed.
    save: Path | None = None
    """Write the recipe to this file (.yaml or .json), to be changed and used in place of its name: minimae pretrain FILE."""

    def __call__(self) -> None:
        if self.save is None:
            print(describe(self.name) if self.name else listing())
            return
        if not self.name:
            raise ValueError(f"name the recipe to write: minimae recipes RECIPE --save {self.save}")
        chosen = entry(self.name)
        write_recipe(chosen, self.save)
        print(f"{self.save}: change it, then run minimae {command_for(chosen)} {self.save}")


@dataclass(frozen=True, kw_only=True)
class ReconstructCommand:
    """Hide most of your own picture and let a trained model reconstruct it. Any size: the picture is resized to the model."""

    pictures: Positional[Annotated[tuple[Path, ...], arg(metavar="PICTURE [PICTURE …]")]]  # One image file or more.
    weights: Path  # Shipped weights by name, a run folder, its checkpoint.pt, or a file of weights.
    layout: OmitArgPrefixes[WeightsOptions] = field(default_factory=WeightsOptions)
    ratio: float | None = None  # Share of the patches to hide; by default the model's own.
    seed: int = 0  # Decides which patches are hidden.
    bits: int | None = None
    """Bits used by a picture of more than 8 bits: 12 for many microscopes and X-rays. By default what the file states."""
    out: Path = Path("reconstruction.png")  # File for the figure; with several pictures a number is added.

    def __call__(self) -> None:
        if not self.pictures:
            raise ValueError(f"name a picture: minimae reconstruct PICTURE --weights {self.weights}")
        trained = self.layout.load(self.weights, load_pretrained)
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
class FlopsCommand:
    """Parameters and floating-point operations of a size: as the paper lays it out, and as this package computes it."""

    name: Positional[Annotated[str, arg(metavar="SIZE")]]  # A named size: nano, micro, tiny, small, base, large or huge; or all.
    ratio: float = 0.75  # Share of the patches that is hidden, between 0 and 1.
    image: int | None = None  # Another height and width of the image in pixels.
    patch: int | None = None  # Another height and width of a patch in pixels.

    def __call__(self) -> None:
        if self.name not in (*SIZES, "all"):
            raise ValueError(f"unknown size {self.name!r}{nearest(self.name, [*SIZES, 'all'])}")
        print("One multiply-add is 2 operations; matmuls only. A training step is three forward passes, less one patch projection.")
        heads = ("encoder", "with decoder", "encoder fwd", "decoder fwd", "step, paper", "step, here")
        print(f"{'size':8}{'image':>6}{'patch':>6}" + "".join(f"{head:>14}" for head in heads))
        changes = {name: value for name, value in (("image", self.image), ("patch", self.patch)) if value is not None}
        for name in SIZES if self.name == "all" else (self.name,):
            s = size(name, **changes)
            paper, ours = flops(s, self.ratio, paper=True), flops(s, self.ratio)
            cells = [f"{count / 1e6:.2f} M" for count in parameters(s)]
            cells += [f"{v / 1e9:.{2 if v > 1e9 else 4}f} GF" for v in (paper.encoder, paper.decoder, paper.step, ours.step)]
            print(f"{name:8}{s.image!s:>6}{s.patch!s:>6}" + "".join(f"{cell:>14}" for cell in cells))
