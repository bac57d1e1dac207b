"""Files become tensors: resized as torchvision does it, colours converted as Pillow does it, damaged ones named or left out."""

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as T
from PIL import Image

from minimae.data.files import convert, read_images, resize, with_channels
from minimae.data.folder import files_of


def from_files(paths, labels=None, classes=(), *, channels=None, limit=None, **how):
    """Images of these files."""
    names = [path.name for path in paths]
    files = with_channels(files_of("x", paths[0].parent, names, labels, classes), channels)
    return read_images(files.limited(limit), **how)


def decode(paths, **how):
    return from_files(paths, **how).pixels


def picture(height: int, width: int, seed: int = 0, channels: int = 3) -> Image.Image:
    """A smooth random picture: noise, enlarged."""
    noise = np.random.default_rng(seed).integers(0, 256, (8, 8, channels)).astype(np.uint8)
    return Image.fromarray(noise.squeeze()).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture
def saved(tmp_path):
    def save(*pictures, suffix=".png"):
        paths = [tmp_path / f"{i:03}{suffix}" for i in range(len(pictures))]
        for path, p in zip(paths, pictures):
            p.save(path)
        return paths

    return save


def test_pixels_are_those_of_the_file(saved):
    pictures = [picture(6, 9, seed) for seed in range(5)]
    images = from_files(saved(*pictures))
    np.testing.assert_array_equal(images.pixels.permute(0, 2, 3, 1), np.stack([np.asarray(p) for p in pictures]))
    assert images.ids.tolist() == [0, 1, 2, 3, 4] and images.skipped == ()


def test_large_files_decoded_in_threads_keep_their_order(saved):
    noise = np.random.default_rng(0).integers(0, 256, (12, 80, 80, 3)).astype(np.uint8)  # too noisy to be small
    paths = saved(*map(Image.fromarray, noise))
    assert paths[0].stat().st_size > 8192
    np.testing.assert_array_equal(decode(paths).permute(0, 2, 3, 1), noise)


def theirs(p: Image.Image, image: int) -> np.ndarray:
    """torchvision's evaluation: the short side becomes 256 for 224 pixels, and the middle is cropped; all of it where it is no larger."""
    short = round(image * 256 / 224) if min(p.size) > image else image
    return np.asarray(T.center_crop(T.resize(p, short, T.InterpolationMode.BICUBIC), [image, image])).astype(int)


SHAPES = [(120, 80, 40), (60, 100, 30), (40, 40, 64), (50, 50, 50), (28, 28, 32), (33, 50, 20), (20, 50, 32), (375, 501, 224)]


@pytest.mark.parametrize(("height", "width", "image"), SHAPES)
def test_a_file_is_shown_as_torchvisions_evaluation_shows_it(height, width, image, saved):
    p = picture(height, width)
    ours = decode(saved(p), image=image)[0].permute(1, 2, 0)
    assert np.abs(ours.numpy().astype(int) - theirs(p, image)).max() <= 1


@pytest.mark.parametrize(("height", "width", "image"), SHAPES)
def test_images_in_memory_are_shown_as_files_are(height, width, image, saved):
    p = picture(height, width)
    paths = saved(p)
    assert torch.equal(resize(decode(paths), image), decode(paths, image=image))
    assert torch.equal(resize(decode(paths), (image, 2 * image)), decode(paths, image=(image, 2 * image)))


def test_grey_values_are_those_of_pillow():
    p = picture(20, 30)
    ours = convert(torch.from_numpy(np.asarray(p).copy()).permute(2, 0, 1)[None], 1)[0, 0]
    assert np.abs(ours.numpy().astype(int) - np.asarray(p.convert("L"))).max() <= 1


def test_grey_files_have_one_channel_and_mixed_ones_three(saved):
    grey, red = picture(8, 8, channels=1), Image.new("RGB", (8, 8), (255, 0, 0))
    assert decode(saved(grey, grey)).shape[1] == 1
    pixels = decode(saved(grey, red))
    assert torch.equal(pixels[0], torch.from_numpy(np.asarray(grey).copy()).expand(3, 8, 8))
    assert pixels[1].amax((1, 2)).tolist() == [255, 0, 0]
    assert decode(saved(grey, red), channels=1).shape[1] == 1
    assert decode(saved(grey), channels=3).shape[1] == 3


def test_palettes_transparency_and_sixteen_bits_are_read(saved):
    colour = Image.new("RGB", (4, 4), (200, 10, 30))
    pixels = decode(saved(colour.quantize(2), colour.convert("RGBA")))
    assert torch.equal(pixels[0], pixels[1]) and pixels[0, :, 0, 0].tolist() == [200, 10, 30]
    deep = Image.fromarray(np.array([[0, 257 * 100], [257 * 200, 65535]], np.uint16))
    assert decode(saved(deep)).flatten().tolist() == [0, 100, 200, 255]


def test_a_photograph_is_turned_as_the_camera_says(tmp_path):
    p = picture(6, 10)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    p.save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(decode([tmp_path / "turned.png"])[0].permute(1, 2, 0), np.rot90(np.asarray(p), -1))


def test_sizes_that_differ_ask_for_a_size(saved):
    paths = saved(picture(8, 8), picture(8, 8), picture(9, 8))
    with pytest.raises(ValueError, match=r"000.png has 8×8 pixels, .*002.png has 9×8 pixels; .*--image"):
        decode(paths)
    assert decode(paths, image=8).shape == (3, 3, 8, 8)


@pytest.mark.parametrize("damage", ["cut", "text", "empty"])
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_damaged_file_is_named_or_left_out(damage, suffix, saved):
    paths = saved(*(picture(40, 40, seed) for seed in range(4)), suffix=suffix)
    raw = paths[1].read_bytes()
    paths[1].write_bytes({"cut": raw[: len(raw) // 2], "text": b"not an image", "empty": b""}[damage])
    with pytest.raises(ValueError, match=rf"001\{suffix} cannot be read.*--skip-corrupt"):
        from_files(paths)
    images = from_files(paths, [0, 1, 0, 1], ("a", "b"), skip_corrupt=True)
    assert images.ids.tolist() == [0, 2, 3] and images.labels.tolist() == [0, 0, 1]
    assert len(images.skipped) == 1 and str(paths[1]) in images.skipped[0]


def test_nothing_but_damaged_files_is_an_error(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match="none of 1 image files"):
        decode([tmp_path / "a.jpg"], skip_corrupt=True)


def test_a_limit_reads_an_even_part_and_keeps_the_ids(saved):
    paths = saved(*(picture(4, 4, seed) for seed in range(20)))
    labels = [0] * 15 + [1] * 5
    whole, part = from_files(paths, labels, ("a", "b")), from_files(paths, labels, ("a", "b"), limit=8)
    assert part.labels.tolist() == [0] * 4 + [1] * 4 and part.ids.tolist() == sorted(part.ids.tolist())
    assert torch.equal(part.pixels, whole.pixels[part.ids])
