"""The authors' own weights, by name. They are theirs: for research only, under the licence below, and not part of this project."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..tasks.pretrain import Pretrained
from .classified import Classified
from .fetch import fetch
from .reading import read

ADDRESS = "https://dl.fbaipublicfiles.com/mae"
LICENCE = (
    "These weights are the authors' (Meta), under CC BY-NC 4.0: not for commercial use. https://creativecommons.org/licenses/by-nc/4.0/"
)


@dataclass(frozen=True)
class Named:
    """Published weights: where, what they are, the first digits of their md5 if the authors name it, and what the decoder predicts."""

    url: str
    what: str
    md5: str | None = None
    target: str = "normalised"

    @property
    def file(self) -> str:
        return self.url.rpartition("/")[2]


def published() -> dict[str, Named]:
    """All names. Encoders and classifiers have checksums on the authors' pages; files with a decoder have none there."""
    models = {"base": "ViT-B/16", "large": "ViT-L/16", "huge": "ViT-H/14"}
    encoders = {"base": "8cad7c", "large": "b8b06e", "huge": "9bdbb0"}
    tuned = {"base": "1b25e9", "large": "51f550", "huge": "2541f2"}
    found = {}
    for size, model in models.items():
        file = f"mae_pretrain_vit_{size}"
        found[f"mae-{size}"] = Named(f"{ADDRESS}/pretrain/{file}.pth", f"{model}, 1600 epochs, encoder alone", encoders[size])
        found[f"mae-{size}-full"] = Named(f"{ADDRESS}/pretrain/{file}_full.pth", f"{model} with its decoder, normalised pixels")
        pictures = f"{ADDRESS}/visualize/mae_visualize_vit_{size}.pth"
        found[f"mae-{size}-pixels"] = Named(pictures, f"{model} with a decoder of plain pixels, for pictures", target="pixels")
        classes = f"{ADDRESS}/finetune/mae_finetuned_vit_{size}.pth"
        found[f"mae-{size}-finetuned"] = Named(classes, f"{model} fine-tuned on ImageNet's 1,000 classes", tuned[size])
    gan = f"{ADDRESS}/visualize/mae_visualize_vit_large_ganloss.pth"
    found["mae-large-pixels-gan"] = Named(
        gan, "ViT-L/16 with a decoder trained with an adversarial loss too, for pictures", target="pixels"
    )
    return found


NAMED = published()


def cache() -> Path:
    """Where fetched weights lie: torch's own folder for them, so that what other tools have fetched is found (TORCH_HOME moves it)."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def load_named(name: str, *, folder: Path | None = None, quiet: bool = False, **options: Any) -> Pretrained | Classified:
    """The authors' weights of this name, fetched the first time. Raises MinimaeError when they cannot be fetched.

    options: those of :func:`minimae.weights.load`.
    """
    chosen = NAMED[name]
    path = (cache() if folder is None else folder) / chosen.file
    if not path.exists():
        print(LICENCE, file=sys.stderr)
    return read(fetch(chosen.url, path, md5=chosen.md5, quiet=quiet), **{"target": chosen.target, **options})
