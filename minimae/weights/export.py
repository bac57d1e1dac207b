"""The encoder for other programs: torch.export, and ONNX. One graph from pixels to features, for batches of any length."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..errors import MinimaeError
from ..model.patches import Pair, pair
from ..tasks.pretrain import Pretrained
from .classified import Classified
from .files import check_absent, whole

Features = Literal["mean", "class", "tokens"]


def network_of(trained: Pretrained | Classified) -> nn.Module:
    """The part that computes features or logits."""
    return trained.model.encoder if isinstance(trained, Pretrained) else trained.classifier


class FeatureModel(nn.Module):
    """Images in [0, 1], float ``b c height width`` → features ``b d`` (or logits of a classifier): normalising is inside.

    pool: mean of the patch tokens, the class token, or all tokens ``b t d``, after the last norm.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, trained: Pretrained | Classified, pool: Features = "mean") -> None:
        super().__init__()
        self.network: nn.Module = copy.deepcopy(network_of(trained)).cpu()
        self.pool = pool if isinstance(trained, Pretrained) else "logits"
        self.class_tokens = trained.size.class_tokens
        for name, values in zip(("mean", "std"), trained.statistics, strict=True):
            self.register_buffer(name, values.cpu()[:, None, None].clone())

    def forward(self, images: Tensor) -> Tensor:
        output: Tensor = self.network((images - self.mean) / self.std)
        if self.pool not in ("mean", "class"):
            return output
        return (output[:, self.class_tokens :] if self.pool == "mean" else output[:, : self.class_tokens]).mean(1)


def exported(trained: Pretrained | Classified, *, pool: Features = "mean", image: int | Pair | None = None) -> torch.export.ExportedProgram:
    """A program of torch.export: ``torch.export.save`` writes it, and it runs without this package.

    image: height and width in pixels, which are fixed in the program; by default those that the model was trained for.
    """
    size = trained.size
    example = torch.rand(2, size.channels, *pair(size.image if image is None else image))
    with torch.no_grad():
        batch = {0: torch.export.Dim("batch", min=1)}
        return torch.export.export(FeatureModel(trained, pool).eval(), (example,), dynamic_shapes=(batch,))


def save_program(trained: Pretrained | Classified, path: Path, **options: Any) -> Path:
    """Write a .pt2 file (torch.export) or an .onnx file, by the extension. options: those of :func:`exported`.

    Raises MinimaeError for another file extension, an existing file, or missing packages of the extra ``onnx``.
    """
    if path.suffix not in (".pt2", ".onnx"):
        raise MinimaeError(f"{path} has the extension {path.suffix!r}: .pt2 (torch.export) or .onnx was expected")
    check_absent(path)
    if path.suffix == ".onnx":
        try:
            import onnxscript  # noqa: F401 (torch.onnx is written with it)
        except ImportError:
            raise MinimaeError('writing ONNX needs onnx and onnxscript: pip install "minimae[onnx]"') from None
    program: Any = exported(trained, **options)
    if path.suffix == ".onnx":
        program = torch.onnx.export(program, input_names=["images"], output_names=["features"], verbose=False)
    with whole(path) as partial:
        torch.export.save(program, partial) if path.suffix == ".pt2" else program.save(str(partial))
    return path
