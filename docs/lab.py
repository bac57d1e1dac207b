"""What the page in the browser needs besides its scripts: weights and pictures, as scripts that it loads when they are wanted.

Scripts, because a page that is opened from disk may not fetch files. The weights are those of data/weights in half precision, without
the decoder of normalised pixels: the page reconstructs with plain pixels, and so with nothing from hidden patches.
"""

from __future__ import annotations

import base64
import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from minimae import data, weights
from minimae.model.patches import pair
from minimae.tasks.pretrained import Pretrained
from minimae.tasks.reconstruct import read_picture

ROOT = Path(__file__).resolve().parent.parent
MODELS = ("photos-tiny",)
PHOTOS = {"chelsea": "a cat", "coffee": "a cup of coffee", "china": "a temple", "flower": "a flower"}
CLOTHES = 8


def script(kind: str, name: str, value: Any) -> str:
    return f"lab.{kind}[{json.dumps(name)}] = {json.dumps(value)}\n"


def model(trained: Pretrained) -> dict[str, Any]:
    """Size, statistics and tensors of the encoder and the decoder of plain pixels; rows × columns of half-precision numbers in base64."""
    assert trained.pictures is not None
    tensors, parts, start = {}, [], 0
    for name, tensor in trained.pictures.state_dict().items():
        rows = tensor.detach().flatten(0, -2) if tensor.dim() > 1 else tensor.detach()[None]
        tensors[name] = {"start": start, "rows": len(rows), "columns": rows.shape[1]}
        parts.append(rows.half().numpy().tobytes())
        start += rows.numel()
    mean, std = (x.tolist() for x in trained.statistics)
    size = asdict(trained.size) | {name: pair(getattr(trained.size, name)) for name in ("image", "patch", "grid")}
    about = {"size": size | {"values": trained.size.values}, "mean": mean, "std": std, "tensors": tensors}
    return about | {"data": base64.b64encode(b"".join(parts)).decode()}


def png(pixels: np.ndarray[Any, Any]) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def photos(side: int) -> list[dict[str, str]]:
    """The middle square of each photograph of data/photos, at the size of the model."""
    found = []
    for name, what in PHOTOS.items():
        pixels = Image.fromarray(read_picture(ROOT / "data" / "photos" / f"{name}.jpg", 3)[0].permute(1, 2, 0).numpy())
        square, (left, top) = min(pixels.size), ((length - min(pixels.size)) // 2 for length in pixels.size)
        box = (left, top, left + square, top + square)
        found.append({"what": what, "png": png(np.asarray(pixels.resize((side, side), Image.Resampling.LANCZOS, box=box)))})
    return found


def clothes() -> list[dict[str, str]]:
    """Test photographs of Fashion-MNIST, one of each of the first classes."""
    images = data.load("fashion", "test")
    assert images.labels is not None
    first = [int((images.labels == label).nonzero()[0]) for label in range(CLOTHES)]
    return [{"what": images.classes[int(images.labels[i])], "png": png(images.pixels[i, 0].numpy())} for i in first]


def write(folder: Path) -> None:
    """NAME.js with the weights of each model, and pictures.js."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {}
    for name in MODELS:
        trained = weights.load_pretrained(name)
        about = model(trained)
        text = script("weights", name, about)
        (folder / f"{name}.js").write_text(text, encoding="ascii")
        shown = photos(about["size"]["image"][0]) if trained.size.channels == 3 else clothes()
        pictures[name] = {"size": about["size"], "megabytes": round(len(text) / 1e6), "pictures": shown}
    (folder / "pictures.js").write_text("".join(script("pictures", name, value) for name, value in pictures.items()), encoding="ascii")
