"""Makes data/photos again from files that come with scikit-image and scikit-learn: ``python data/make_photos.py``."""

from pathlib import Path

from PIL import Image, ImageOps

from minimae.data.photos import photograph

SIZE = (432, 288)  # width and height: 3 : 2, cut from the middle

if __name__ == "__main__":
    for name in ("chelsea", "china", "coffee", "flower"):
        picture = ImageOps.fit(Image.fromarray(photograph(name).numpy()), SIZE, Image.Resampling.LANCZOS)
        picture.save(Path(__file__).parent / "photos" / f"{name}.jpg", quality=90, optimize=True)
