"""Draws README's first picture again: ``python docs/pictures.py``. Three photographs, most of each hidden, reconstructed by photos-tiny."""

from pathlib import Path

import torch
from minimae_book.photographs import shipped_photographs
from PIL import Image, ImageDraw, ImageFont

import minimae
from minimae.tasks.reconstruct import fit_to_model, read_picture, reconstruct_batch

NAMES, TITLES = ("chelsea", "coffee", "china"), ("original", "75 % hidden", "reconstruction")
GAP, LINE, COLOURS = 16, 56, 256  # pixels, pixels, and colours of the file

if __name__ == "__main__":
    trained = minimae.load("photos-tiny")
    pixels = [fit_to_model(read_picture(path, 3), trained) for name in NAMES for path in shipped_photographs() if path.stem == name]
    rows, _ = reconstruct_batch(trained, torch.cat(pixels))
    height, width = (2 * side for side in rows[0][0].shape[:2])  # twice as many pixels, for fine screens
    image = Image.new("RGB", (3 * width + 4 * GAP, LINE + len(rows) * (height + GAP)), "white")
    for j, title in enumerate(TITLES):
        left = GAP + j * (width + GAP)
        ImageDraw.Draw(image).text((left + width // 2, LINE // 2), title, "black", ImageFont.load_default(38), anchor="mm")
        for i, row in enumerate(rows):
            part = Image.fromarray((255 * row[j]).round().byte().numpy())
            image.paste(part.resize((width, height), Image.Resampling.NEAREST), (left, LINE + i * (height + GAP)))
    small = image.quantize(COLOURS, method=Image.Quantize.MAXCOVERAGE, kmeans=9, dither=Image.Dither.NONE)
    small.save(Path(__file__).parent / "images" / "photographs.png", optimize=True)
