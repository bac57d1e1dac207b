"""The encoder for other programs: torch.export, and ONNX. One graph from pixels to features; the batch may have any length."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..devices import device_of
from ..errors import MinimaeError
from ..model.patches import Pair, pair
from ..tasks.pretrain import Pretrained
from .classified import Classified


class FeatureModel(nn.Module):
    """Images in [0, 1], float ``b c height width`` → features ``b d`` (or logits of a classifier): normalising is inside.

    pool: mean of the patch tokens, the class token, or all tokens ``b t d``, after the last norm.
    """

    def __init__(self, trained: Pretrained | Classified, pool: Literal["mean", "class", "tokens"] = "mean") -> None:
        super().__init__()
        network: nn.Module = trained.model.encoder if isinstance(trained, Pretrained) else trained.classifier
        self.network = network if device_of(network).type == "cpu" else copy.deepcopy(network).cpu()
        self.mean: Tensor
        self.deviation: Tensor
        self.pool = pool if isinstance(trained, Pretrained) else "logits"
        mean, deviation = trained.statistics
        self.register_buffer("mean", mean.cpu()[:, None, None].clone())
        self.register_buffer("deviation", deviation.cpu()[:, None, None].clone())

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.network((images - self.mean) / self.deviation)
        if self.pool == "mean":
            return found[:, 1:].mean(1)
        return found[:, 0] if self.pool == "class" else found


def exported(
    trained: Pretrained | Classified, *, pool: Literal["mean", "class", "tokens"] = "mean", image: int | Pair | None = None
) -> torch.export.ExportedProgram:
    """A program of torch.export: ``torch.export.save`` keeps it, and it runs without this package.

    image: height and width in pixels, which are fixed in the program; by default those that the model was trained for.
    """
    model = FeatureModel(trained, pool).eval()
    size = trained.size
    height, width = pair(size.image if image is None else image)
    example = torch.rand(2, size.channels, height, width)
    with torch.no_grad():
        return torch.export.export(model, (example,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))


def save_program(trained: Pretrained | Classified, path: Path, **options: Any) -> Path:
    """Write a .pt2 file (torch.export) or an .onnx file, by the ending. ONNX wants the packages of the extra ``onnx``.

    Raises MinimaeError for another ending, or when those packages are missing.
    """
    if path.suffix not in (".pt2", ".onnx"):
        raise MinimaeError(f"{path} has the ending {path.suffix!r}: .pt2 (torch.export) or .onnx was wanted")
    if path.exists():
        raise MinimaeError(f"{path} is there already: choose another name, or remove it")
    if path.suffix == ".onnx":
        try:
            import onnxscript  # noqa: F401 (torch.onnx is written with it)
        except ImportError:
            raise MinimaeError('writing ONNX wants onnx and onnxscript: pip install "minimae[onnx]"') from None
    program = exported(trained, **options)
    temporary = path.with_name(f"{path.stem}.partial{path.suffix}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        if path.suffix == ".pt2":
            torch.export.save(program, temporary)
        else:
            written: Any = torch.onnx.export(program, input_names=["images"], output_names=["features"], verbose=False)
            written.save(str(temporary))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path
