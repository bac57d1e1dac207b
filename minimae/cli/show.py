"""Commands that show something: recipes, a reconstruction, the cost of a size."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from minimae_book.photographs import photographs_figure, ratio_figure
from tyro.conf import OmitArgPrefixes, Positional, arg

from ..errors import nearest
from ..model.sizes import SIZES, flops, parameters, size
from ..recipes import describe, entry, listing, write_recipe
from ..tasks.reconstruct import fit_to_model, read_picture
from ..train import threads
from ..weights import load_pretrained
from ..weights.files import check_absent, whole
from .commands import command_for
from .options import WeightsOptions, check_outputs


@dataclass(frozen=True, kw_only=True)
class RecipesCommand:
    """List all recipes, with source, cost and the paper's result; or show one of them in full."""

    name: Positional[Annotated[str, arg(metavar="[RECIPE]")]] = ""  # A recipe; without one, all are listed.
    save: Path | None = None
    """Write the recipe to this file (.json; .yaml needs pyyaml). You can edit it and give it in place of a name: minimae pretrain FILE."""

    def __call__(self) -> None:
        if self.save is None:
            print(describe(self.name) if self.name else listing())
            return
        if not self.name:
            raise ValueError(f"name the recipe to write: minimae recipes RECIPE --save {self.save}")
        chosen = entry(self.name)
        check_absent(self.save)
        write_recipe(chosen, self.save)
        print(f"{self.save}: change it, then run minimae {command_for(chosen)} {self.save}")


@dataclass(frozen=True, kw_only=True)
class ReconstructCommand:
    """Hide most of your own picture, of any size and shape, and let a trained model reconstruct it. The default is shipped photographs."""

    pictures: Positional[Annotated[tuple[Path, ...], arg(metavar="[PICTURE …]")]] = ()  # Image files; by default, shipped photographs.
    weights: Path = Path("photos-tiny")  # Shipped weights by name, a run folder, its checkpoint.pt, or a file of weights.
    layout: OmitArgPrefixes[WeightsOptions] = field(default_factory=WeightsOptions)
    ratio: float | None = None  # Share of the patches to hide; by default the model's own.
    seed: int = 0  # Decides which patches are hidden.
    bits: int | None = None
    """Bits used by a picture of more than 8 bits, such as 12 for many microscopes and X-rays; by default as the file states."""
    out: Path = Path("reconstruction.png")  # File for the figure; with several pictures, a number is added to its name.
    animate: Path | None = None  # Also write an animation of a growing mask, as .gif, .png or .webp.

    def __call__(self) -> None:
        if self.animate and (not self.pictures or self.animate.suffix.lower() not in (".gif", ".png", ".webp")):
            raise ValueError("an animation needs a picture, and a file that ends in .gif, .png or .webp: PICTURE --animate mask.gif")
        trained = self.layout.load(self.weights, load_pretrained)
        threads.in_this_process(trained.model.size, device="cpu", images=1)
        channels = trained.model.size.channels
        if channels not in (1, 3):
            raise ValueError(f"this model takes {channels} channels; pictures from files have 1 or 3")
        print(f"weights: {self.weights}, trained on {trained.recipe.data}, {'in colour' if channels == 3 else 'in grey'}")
        out = self.out if self.out.suffix else self.out.with_suffix(".png")
        masks: dict[str, Any] = {"seed": self.seed, "ratio": self.ratio}
        numbers = [f"-{i + 1}" for i in range(len(self.pictures))] if len(self.pictures) > 1 else [""]
        outs = [out.with_stem(out.stem + number) for number in numbers]
        animations = [self.animate.with_stem(self.animate.stem + number) for number in numbers] if self.animate else []
        check_outputs(*outs, *animations, inputs=self.pictures)
        if not self.pictures:
            self.write(out, *photographs_figure(trained, **masks))
        for i, path in enumerate(self.pictures):
            pixels = fit_to_model(read_picture(path, channels, bits=self.bits), trained)
            self.write(outs[i], *ratio_figure(trained, pixels, **masks))
            if animations:
                self.write(animations[i], *ratio_figure(trained, pixels, **masks, grows=True))

    def write(self, path: Path, figure: Any, caption: str) -> None:
        """Save a figure or an animation under this path, and print the path."""
        with whole(path) as partial:
            figure.savefig(partial)
        print(f"{path}: {caption}")


@dataclass(frozen=True, kw_only=True)
class FlopsCommand:
    """Parameters and floating-point operations of a size: as the paper counts them, and as this package computes."""

    name: Positional[Annotated[str, arg(metavar="SIZE")]]  # A named size: nano, micro, tiny, small, base, large or huge; or all.
    ratio: float = 0.75  # Share of the patches that is hidden, between 0 and 1.
    image: int | None = None  # Another height and width of the image in pixels.
    patch: int | None = None  # Another height and width of a patch in pixels.

    def __call__(self) -> None:
        if self.name not in (*SIZES, "all"):
            raise ValueError(f"unknown size {self.name!r}{nearest(self.name, [*SIZES, 'all'])}")
        print("One multiply-add is 2 operations; only matrix products count. A step is three forward passes, minus one patch projection.")
        heads = ("encoder", "with decoder", "encoder fwd", "decoder fwd", "step, paper", "step, here")
        print(f"{'size':8}{'image':>6}{'patch':>6}" + "".join(f"{head:>14}" for head in heads))
        changes = {name: value for name, value in (("image", self.image), ("patch", self.patch)) if value is not None}
        for name in SIZES if self.name == "all" else (self.name,):
            s = size(name, **changes)
            paper, ours = flops(s, self.ratio, paper=True), flops(s, self.ratio)
            cells = [f"{count / 1e6:.2f} M" for count in parameters(s)]
            cells += [f"{v / 1e9:.{2 if v > 1e9 else 4}f} GF" for v in (paper.encoder, paper.decoder, paper.step, ours.step)]
            print(f"{name:8}{s.image!s:>6}{s.patch!s:>6}" + "".join(f"{cell:>14}" for cell in cells))
