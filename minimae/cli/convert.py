"""Commands that write weights: as one file of ours, or in another library's layout."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import OmitArgPrefixes, Positional, arg

from .. import weights
from ..weights.export import save_program
from ..weights.files import check_absent
from .options import WeightsOptions


@dataclass(frozen=True, kw_only=True)
class ExportCommand:
    """Write trained weights as one self-contained safetensors file: minimae export RUN OUT.safetensors."""

    weights: Positional[Annotated[Path, arg(metavar="RUN")]]
    """A run folder of pre-training or fine-tuning, its checkpoint, or shipped weights by name."""
    out: Positional[Annotated[Path, arg(metavar="OUT")]]  # The file to write.
    half: bool = False  # Half precision: half as large, and rounded.

    def __call__(self) -> None:
        out = self.out if self.out.suffix else self.out.with_suffix(".safetensors")
        weights.save(weights.load(self.weights), out, half=self.half)
        print(f"{out}: {out.stat().st_size / 1e6:.1f} MB")


@dataclass(frozen=True, kw_only=True)
class ConvertCommand:
    """Write weights in another layout: minimae convert IN OUT --to official. OUT is a .pth or .safetensors file, or a folder."""

    weights: Positional[Annotated[str, arg(metavar="IN")]]
    """A name, a run folder, or a file or folder of another library; its layout is detected."""
    out: Positional[Annotated[Path, arg(metavar="OUT")]]  # The file or folder to write.
    to: Literal["minimae", "official", "huggingface", "timm", "program"]
    """official: the authors' code. huggingface: a folder for transformers. program: the encoder as .pt2 (torch.export) or .onnx."""
    encoder_only: bool = False  # Leave the decoder out.
    image: int | None = None  # Another image size in pixels: positions are resized.
    layout: OmitArgPrefixes[WeightsOptions] = field(default_factory=WeightsOptions)
    decoder_heads: int | None = None  # Heads of the decoder, where the weights do not state them.
    target: Literal["normalised", "pixels", "pca"] | None = None
    """What the decoder was trained to predict, where the weights do not state it: normalised by default."""
    mean: tuple[float, ...] | None = None  # Mean of each channel of the images in [0, 1], where the weights do not state it.
    std: tuple[float, ...] | None = None  # Standard deviation of each channel; with --mean.
    pool: Literal["mean", "class", "tokens"] = "mean"  # Output of a program: the mean of the patch tokens, the class token, or all tokens.
    strict: bool = True  # Refuse weights in which something is missing or left over.

    def __call__(self) -> None:
        if (self.mean is None) != (self.std is None):
            raise ValueError("--mean and --std belong together: give both, with one number for each channel")
        check_absent(self.out)
        given: dict[str, Any] = {name: getattr(self, name) for name in ("image", "decoder_heads", "target", "strict")}
        trained = self.layout.load(self.weights, **given, statistics=None if self.mean is None else (self.mean, self.std))
        if self.to == "program":
            save_program(trained, self.out, pool=self.pool)
        else:
            weights.save(trained, self.out, self.to, encoder_only=self.encoder_only)
        size = sum(path.stat().st_size for path in ([self.out] if self.out.is_file() else self.out.iterdir()))
        print(f"{self.out}: {size / 1e6:.1f} MB")
