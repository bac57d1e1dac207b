"""Commands that write weights: as one file in our layout, or in the layout of another library."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import OmitArgPrefixes, Positional, arg

from .. import weights
from ..weights.export import save_program
from ..weights.files import check_absent
from ..weights.official import PUBLISHED
from ..weights.registry import shipped
from .options import WeightsOptions, check_outputs


@dataclass(frozen=True, kw_only=True)
class ExportCommand:
    """Write trained weights as one self-contained safetensors file, or as a folder for the hub: minimae export RUN OUT.safetensors."""

    weights: Positional[Annotated[Path, arg(metavar="RUN")]]
    """A run folder of pre-training or fine-tuning, its checkpoint, or shipped weights by name."""
    out: Positional[Annotated[Path, arg(metavar="OUT")]]  # The file or folder to write.
    to: Literal["file", "hub-folder"] = "file"
    """hub-folder: config.json, model.safetensors and a model card, for huggingface_hub's from_pretrained and for uploading."""
    half: bool = False  # Round to half precision, for a file of half the size.
    license: str | None = None
    """Licence of the weights on the model card, as the hub names it: mit, apache-2.0, cc-by-nc-4.0 …"""

    def __call__(self) -> None:
        if unused := "--license" if self.license and self.to == "file" else "--half" if self.half and self.to != "file" else "":
            raise ValueError(f"{unused} does not apply with --to {self.to}: leave out one of them")
        if self.to == "file":
            out = self.out if self.out.suffix else self.out.with_suffix(".safetensors")
            check_outputs(out, inputs=[self.weights])
            print_size(weights.save(weights.load(self.weights), out, half=self.half))
            return
        from ..weights.hub import save_hub_folder

        name = str(self.weights)
        card = shipped()[name].with_suffix(".md").read_text(encoding="utf-8") if name in shipped() else None
        if self.license and (card is not None or name in PUBLISHED):
            raise ValueError(f"the licence of {name} is known and stays: leave out --license")
        licence = "cc-by-nc-4.0" if name in PUBLISHED else self.license
        print_size(save_hub_folder(weights.load(self.weights), self.out, license=licence, card=card))


def print_size(path: Path) -> None:
    """Print the path of a file or folder, and its size."""
    size = sum(file.stat().st_size for file in ([path] if path.is_file() else path.iterdir()))
    print(f"{path}: {size / 1e6:.1f} MB")


@dataclass(frozen=True, kw_only=True)
class ConvertCommand:
    """Write weights in another layout: minimae convert IN OUT --to official. OUT is a .pth or .safetensors file, or a folder."""

    weights: Positional[Annotated[str, arg(metavar="IN")]]
    """A name, a run folder, or a file or folder of another library; its layout is detected."""
    out: Positional[Annotated[Path, arg(metavar="OUT")]]  # The file or folder to write.
    to: Literal["minimae", "official", "huggingface", "timm", "program"]
    """official: the authors' code. huggingface: a folder for transformers. program: the encoder as .pt2 (torch.export) or .onnx."""
    encoder_only: bool = False  # Leave the decoder out.
    image: int | None = None  # Resize positions to another image size in pixels.
    layout: OmitArgPrefixes[WeightsOptions] = field(default_factory=WeightsOptions)
    decoder_heads: int | None = None  # Number of heads of the decoder, if the weights do not state it.
    target: Literal["normalised", "pixels", "pca"] | None = None
    """What the decoder was trained to predict, if the weights do not state it; normalised by default."""
    mean: tuple[float, ...] | None = None  # Mean of each channel of the images in [0, 1], if the weights do not state it.
    std: tuple[float, ...] | None = None  # Standard deviation of each channel; with --mean.
    pool: Literal["mean", "class", "tokens"] = "mean"  # Output of a program: the mean of the patch tokens, the class token, or all tokens.
    strict: bool = True  # Refuse weights with missing or unexpected tensors.

    def __call__(self) -> None:
        if (self.mean is None) != (self.std is None):
            raise ValueError("--mean and --std belong together: give both, with one number per channel")
        check_absent(self.out)
        given: dict[str, Any] = {name: getattr(self, name) for name in ("image", "decoder_heads", "target", "strict")}
        trained = self.layout.load(self.weights, **given, statistics=None if self.mean is None else (self.mean, self.std))
        if self.to == "program":
            save_program(trained, self.out, pool=self.pool)
        else:
            weights.save(trained, self.out, self.to, encoder_only=self.encoder_only)
        print_size(self.out)
