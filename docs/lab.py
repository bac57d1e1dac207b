"""What the page in the browser needs besides its scripts: weights and pictures, as scripts that it loads when they are wanted.

Scripts, because a page that is opened from disk may not fetch files. The weights are those of data/weights in half precision, without
the decoder of normalised pixels: the page reconstructs with plain pixels, and so with nothing from hidden patches.

fashion-nano comes without a decoder of plain pixels. Its own lies beside this file; ``python docs/lab.py`` trains it again, on the frozen
encoder, for one epoch of Fashion-MNIST. It takes about two minutes on one core.
"""

from __future__ import annotations

import base64
import io
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from minimae import data, weights
from minimae.model.mae import MAE
from minimae.model.masking import make_mask
from minimae.model.patches import pair
from minimae.tasks.pretrained import Pretrained
from minimae.tasks.reconstruct import read_picture, reconstruction_triplets

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
MODELS = ("photos-tiny", "fashion-nano")
PHOTOS = {"chelsea": "a cat", "coffee": "a cup of coffee", "china": "a temple", "flower": "a flower"}
CLOTHES = 8
GROWING = (0.1, 0.25, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.98)


def with_pixels(name: str) -> Pretrained:
    """A shipped model with a decoder of plain pixels, its own or the one beside this file."""
    trained = weights.load_pretrained(name)
    if trained.pictures is not None:
        return trained
    pictures = MAE(trained.size, target="pixels")
    pictures.decoder.load_state_dict(load_file(HERE / f"{name}-pixels.safetensors"))
    pictures.encoder = trained.model.encoder
    return replace(trained, pictures=pictures.eval())


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


def png(pixels: np.ndarray[Any, Any], kind: str = "png", **options: Any) -> str:
    """An image as an address that holds it."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return f"data:image/{kind};base64," + base64.b64encode(file.getvalue()).decode()


def photo(name: str, side: int) -> np.ndarray[Any, Any]:
    """The middle square of a photograph of data/photos, at the size of the model: uint8 height width 3."""
    pixels = Image.fromarray(read_picture(ROOT / "data" / "photos" / f"{name}.jpg", 3)[0].permute(1, 2, 0).numpy())
    square, (left, top) = min(pixels.size), ((length - min(pixels.size)) // 2 for length in pixels.size)
    return np.asarray(pixels.resize((side, side), Image.Resampling.LANCZOS, box=(left, top, left + square, top + square)))


def growing(trained: Pretrained, side: int) -> dict[str, Any]:
    """The figure of chapter 00 in which the mask grows: a photograph at several ratios, seed 0. Each mask contains the smaller ones."""
    pixels = torch.from_numpy(photo("chelsea", side).copy()).permute(2, 0, 1)[None]
    masks = [make_mask(torch.tensor([0]), trained.size.grid, ratio=ratio) for ratio in GROWING]
    triplets = [reconstruction_triplets(trained, pixels, mask)[0] for mask in masks]
    squares = [(original - reconstructed).square() for original, _, reconstructed in triplets]
    images = [png((x * 255).round().byte().numpy(), "webp", quality=90) for x in (triplets[0][0], *(last for _, _, last in triplets))]
    return {
        "ratios": GROWING, "counts": [mask.masked.shape[1] for mask in masks],
        "order": torch.cat([masks[0].keep, masks[0].masked], 1)[0].tolist(), "original": images[0], "reconstructions": images[1:],
        "errors": [float(square.sum() / (3 * 16 * mask.masked.shape[1])) for square, mask in zip(squares, masks)],
    }  # fmt: skip


def clothes() -> list[dict[str, str]]:
    """Test photographs of Fashion-MNIST, one of each of the first classes."""
    images = data.load("fashion", "test")
    assert images.labels is not None
    first = [int((images.labels == label).nonzero()[0]) for label in range(CLOTHES)]
    return [{"what": images.classes[int(images.labels[i])], "png": png(images.pixels[i, 0].numpy(), optimize=True)} for i in first]


def write(folder: Path) -> None:
    """NAME.js with the weights of each model, pictures.js, and growing.js for a figure of chapter 00."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {}
    for name in MODELS:
        trained = with_pixels(name)
        about = model(trained)
        text = script("weights", name, about)
        (folder / f"{name}.js").write_text(text, encoding="ascii")
        side = about["size"]["image"][0]
        if trained.size.channels == 3:
            shown = [{"what": what, "png": png(photo(file, side), optimize=True)} for file, what in PHOTOS.items()]
            (folder / "growing.js").write_text(script("pictures", "growing", growing(trained, side)), encoding="ascii")
        else:
            shown = clothes()
        pictures[name] = {"size": about["size"], "megabytes": round(len(text) / 1e6), "pictures": shown}
    (folder / "pictures.js").write_text("".join(script("pictures", name, value) for name, value in pictures.items()), encoding="ascii")


def train(name: str = "fashion-nano", epochs: float = 1) -> None:
    """A decoder of plain pixels for a shipped model: docs/NAME-pixels.safetensors, in half precision."""
    sys.path.insert(0, str(ROOT / "data"))
    from make_weights import pixel_decoder

    trained = weights.load_pretrained(name)
    images = data.load(trained.recipe.data, "train")
    pictures, result = pixel_decoder(trained, images, epochs, ROOT / "runs" / f"{name}-pixels", "cpu")
    save_file({key: value.half().contiguous() for key, value in pictures.decoder.state_dict().items()}, HERE / f"{name}-pixels.safetensors")
    print(f"mean squared error {result.loss:.3f} after {result.steps:,} steps in {result.seconds:.0f} s")


if __name__ == "__main__":
    train()
