"""The authors' weights: what their code calls the parameters and saves beside them, and their published files by name."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .download import download
from .facts import IMAGENET, Facts
from .layouts import Names

NAMES = Names(
    parts={
        "encoder.class_token": "cls_token", "encoder.positions": "pos_embed", "encoder.project": "patch_embed.proj",
        "encoder.blocks": "blocks", "encoder.norm": "norm", "norm": "fc_norm", "head": "head",
        "decoder.embed": "decoder_embed", "decoder.mask_token": "mask_token", "decoder.positions": "decoder_pos_embed",
        "decoder.blocks": "decoder_blocks", "decoder.norm": "decoder_norm", "decoder.predict": "decoder_pred",
    },
    block={
        "norm1": "norm1", "attention.qkv": "attn.qkv", "attention.out": "attn.proj", "norm2": "norm2", "mlp.up": "mlp.fc1",
        "mlp.down": "mlp.fc2",
    },
)  # fmt: skip
MODELS = {"base": (768, 12), "large": (1024, 16), "huge": (1280, 16)}  # width and heads
ADDRESS = "https://dl.fbaipublicfiles.com/mae"
LICENCE = (
    "These weights are the authors' (Meta), under CC BY-NC 4.0: not for commercial use. https://creativecommons.org/licenses/by-nc/4.0/"
)


def facts_of_args(args: Mapping[str, Any]) -> Facts:
    """Facts from the options that the authors' code saves beside its weights."""
    match = re.fullmatch(r"(?:mae_)?vit_(base|large|huge)_patch\d+(?:_dec512d8b)?", str(args.get("model")))
    normalised, ratio = args.get("norm_pix_loss"), args.get("mask_ratio")
    return Facts(
        heads=MODELS[match[1]][1] if match else None, decoder_heads=16 if match else None, statistics=IMAGENET if match else None,
        ratio=float(ratio) if isinstance(ratio, float) and 0 < ratio < 1 else None,
        target=None if normalised is None else "normalised" if normalised else "pixels",
    )  # fmt: skip


def facts_of_name(file: str, width: int) -> Facts:
    """Facts from the name of a file that the authors publish, when the weights have its width."""
    match = re.fullmatch(r"mae_(pretrain|visualize|finetuned)_vit_(base|large|huge)(_full|_ganloss)?\.pth", file)
    if match is None or MODELS[match[2]][0] != width:
        return Facts()
    target = "pixels" if match[1] == "visualize" else "normalised"
    return Facts(heads=MODELS[match[2]][1], decoder_heads=16, target=target, statistics=IMAGENET)


@dataclass(frozen=True)
class Published:
    """A published file: its address, the first digits of its md5 if the authors name it, and what the decoder predicts."""

    url: str
    md5: str | None = None
    target: str = "normalised"


def published() -> dict[str, Published]:
    """Weights by name. Encoders and classifiers have checksums on the authors' pages; files with a decoder have none there."""
    checksums = {"base": ("8cad7c", "1b25e9"), "large": ("b8b06e", "51f550"), "huge": ("9bdbb0", "2541f2")}
    found = {}
    for size, (encoder, classifier) in checksums.items():
        found[f"mae-{size}"] = Published(f"{ADDRESS}/pretrain/mae_pretrain_vit_{size}.pth", encoder)
        found[f"mae-{size}-full"] = Published(f"{ADDRESS}/pretrain/mae_pretrain_vit_{size}_full.pth")
        found[f"mae-{size}-pixels"] = Published(f"{ADDRESS}/visualize/mae_visualize_vit_{size}.pth", target="pixels")
        found[f"mae-{size}-finetuned"] = Published(f"{ADDRESS}/finetune/mae_finetuned_vit_{size}.pth", classifier)
    return found | {"mae-large-pixels-gan": Published(f"{ADDRESS}/visualize/mae_visualize_vit_large_ganloss.pth", target="pixels")}


PUBLISHED = published()


def published_file(name: str, folder: Path | None = None, *, quiet: bool = False) -> Path:
    """The file of published weights, downloaded the first time. Raises MinimaeError when it cannot be downloaded.

    folder: by default torch's own for such files, so that what other tools have downloaded is found (TORCH_HOME moves it).
    """
    weights = PUBLISHED[name]
    path = (Path(torch.hub.get_dir()) / "checkpoints" if folder is None else folder) / weights.url.rpartition("/")[2]
    if not path.exists():
        print(LICENCE, file=sys.stderr)
    return download(weights.url, path, md5=weights.md5, quiet=quiet)
