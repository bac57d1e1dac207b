"""One reader for every picture: depth, palettes, transparency and orientation, by values worked out by hand."""

import io
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from minimae.data import load
from minimae.data.decoding import decode, read_file, read_header
from minimae.data.loader import in_memory
from minimae.data.stream import open_folder
from minimae.errors import MinimaeError
from minimae.tasks.reconstruct import read_picture


def ways(path: Path, channels: int, bits: int | None = None) -> list[np.ndarray]:
    """A picture as each entrance of the package reads it: uint8 ``c h w``."""
    whole = read_picture(path, channels, bits=bits)[0]
    folder = load(path.parent, channels=channels, bits=bits).pixels[0]
    stream = open_folder(path.parent, channels=channels, bits=bits)
    files = in_memory(stream, image=tuple(whole.shape[1:])).pixels[0]
    return [x.numpy() for x in (whole, folder, files)]


def check(path: Path, wanted: list[list[int]] | np.ndarray, bits: int | None = None) -> None:
    wanted = np.asarray(wanted)
    for channels in (1, 3):
        for found in ways(path, channels, bits):
            np.testing.assert_array_equal(found, np.broadcast_to(wanted, (channels, *wanted.shape)))


DEEP = np.array([[0, 257, 128 * 257], [200 * 257, 65535, 129]], np.uint16)
SHOWN = [[0, 1, 128], [200, 255, 1]]  # divided by 257 and rounded: 129 / 257 is 0.502


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jp2"])
def test_sixteen_bits_keep_their_levels(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    Image.fromarray(DEEP).save(path, **({"irreversible": False} if suffix == ".jp2" else {}))
    check(path, SHOWN)


def test_a_ramp_of_sixteen_bits_has_256_levels_everywhere(tmp_path: Path) -> None:
    """Not five, as Pillow's conversion leaves of it."""
    ramp = np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    for found in ways(tmp_path / "a.png", 1):
        assert len(np.unique(found)) == 256
        np.testing.assert_array_equal(found[0], np.rint(ramp / 257).astype(np.uint8))


TWELVE = np.array([[0, 4095, 2048], [1000, 16, 8]], np.uint16)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_twelve_bits_in_sixteen_are_stated(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    Image.fromarray(TWELVE).save(path)
    check(path, [[0, 255, 128], [62, 1, 0]], bits=12)
    with pytest.raises(ValueError, match=r"from 0 to 4095, and 11 bits go from 0 to 2047: give the right bits="):
        read_picture(path, 1, bits=11)
    with pytest.raises(ValueError, match="^bits are between 8 and 32, not 4"):
        read_picture(path, 1, bits=4)


def test_twelve_bits_that_a_file_states_need_no_argument(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", TWELVE, extratags=[(281, "H", 1, 4095, True)])
    check(tmp_path / "a.tif", [[0, 255, 128], [62, 1, 0]])


def test_floats_are_grey_values_from_0_to_1(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.array([[0, 1, 0.5], [0.1, 0.25, 0.999]], np.float32))
    check(path, [[0, 255, 128], [26, 64, 255]])
    for wrong in (255.0, -0.1, np.nan):
        tifffile.imwrite(path, np.array([[0, wrong]], np.float32))
        with pytest.raises(ValueError, match="float pictures hold grey values from 0 to 1"):
            read_picture(path, 1)


@pytest.mark.parametrize(("dtype", "said"), [(np.uint32, "does not state their range"), (np.int32, "does not state"), (np.int16, "-5")])
def test_numbers_without_a_known_range_ask_for_it(dtype: type, said: str, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.array([[-5 if dtype == np.int16 else 0, 1023, 512]], dtype))
    with pytest.raises(ValueError, match=said):
        read_picture(tmp_path / "a.tif", 1)
    with pytest.raises(ValueError, match=said):
        load(tmp_path)
    with pytest.raises(MinimaeError, match=said):
        in_memory(open_folder(tmp_path), image=(1, 3))
    if dtype != np.int16:
        check(tmp_path / "a.tif", [[0, 255, 128]], bits=10)


def test_colour_of_sixteen_bits_keeps_the_upper_eight(tmp_path: Path) -> None:
    colour = np.array([[[0, 257 * 100, 65535]]], np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", colour, photometric="rgb")
    assert [x.ravel().tolist() for x in ways(tmp_path / "a.tif", 3)] == [[0, 100, 255]] * 3
    with pytest.raises(ValueError, match=r"16-bit colour is read in its full range only, and bits=12"):
        read_picture(tmp_path / "a.tif", 3, bits=12)


def written(picture: Image.Image, kind: str, **how: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **how)
    return out.getvalue()


RED = Image.new("RGB", (3, 2), (200, 10, 30))  # grey value (299 · 200 + 587 · 10 + 114 · 30) / 1000 = 69.09


@pytest.mark.parametrize(
    ("picture", "kind", "grey", "colour"),
    [
        (RED, "PNG", 69, [200, 10, 30]),
        (RED.quantize(2), "PNG", 69, [200, 10, 30]),
        (RED.quantize(2), "GIF", 69, [200, 10, 30]),
        (Image.merge("RGBA", (*RED.split(), Image.new("L", RED.size, 7))), "PNG", 69, [200, 10, 30]),
        (Image.new("LA", (3, 2), (90, 7)), "PNG", 90, [90] * 3),
        (Image.new("1", (3, 2), 1), "PNG", 255, [255] * 3),
        (Image.new("CMYK", (3, 2), (55, 245, 225, 0)), "TIFF", 69, [200, 10, 30]),
    ],
)
def test_palettes_transparency_one_bit_and_cmyk(picture: Image.Image, kind: str, grey: int, colour: list[int]) -> None:
    data = written(picture, kind)
    assert np.asarray(decode(read_header(data), channels=1)).ravel().tolist() == [grey] * 6
    assert np.asarray(decode(read_header(data), channels=3)).reshape(-1, 3).tolist() == [colour] * 6
    assert decode(read_header(data), channels=None).mode == ("L" if picture.mode in ("LA", "1") else "RGB")


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize(("kind", "dtype"), [("PNG", np.uint8), ("TIFF", np.uint8), ("PNG", np.uint16), ("WEBP", np.uint8)])
def test_pictures_of_every_kind_lie_upright(turn: int, kind: str, dtype: type, tmp_path: Path) -> None:
    """By EXIF's definition: where the first row and the first column of the file lie when it is seen upright."""
    values = np.array([[0, 50, 100], [150, 200, 250]], np.uint8)
    upright = [values, np.fliplr(values), np.rot90(values, 2), np.flipud(values), values.T, np.rot90(values, -1), np.rot90(values, 2).T,
               np.rot90(values)][turn - 1]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = turn
    stored = values if dtype == np.uint8 else values.astype(np.uint16) * 257
    path = tmp_path / f"a.{kind.lower()}"
    Image.fromarray(stored).save(path, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    header = read_header(path.read_bytes())
    assert (header.height, header.width) == upright.shape
    np.testing.assert_array_equal(np.asarray(read_file(path, channels=1)), upright)


@pytest.mark.parametrize("turn", [0, 9])
def test_an_orientation_that_does_not_exist_turns_nothing(turn: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    (tmp_path / "a.jpg").write_bytes(written(RED.resize((6, 4)), "JPEG", exif=exif))
    stream = open_folder(tmp_path)
    assert stream.size_of(0) == tuple(stream.read(0).shape[1:]) == (4, 6)


def test_a_bomb_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    RED.resize((100, 100)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match=r"a.png cannot be read as a picture \(.*decompression bomb"):
        read_picture(tmp_path / "a.png", 3)


def test_grey_files_are_read_in_one_channel_from_memory_and_from_files(tmp_path: Path) -> None:
    for i in range(3):
        Image.fromarray(np.full((4, 5), 40 * i, np.uint8)).save(tmp_path / f"{i}.png")
    stream = open_folder(tmp_path)
    assert stream.channels == load(tmp_path).channels == 1
    assert torch.equal(in_memory(stream, image=(4, 5)).pixels, load(tmp_path).pixels)
    RED.resize((5, 4)).save(tmp_path / "9.png")
    assert open_folder(tmp_path).channels == load(tmp_path).channels == 3
    assert torch.equal(in_memory(open_folder(tmp_path), image=(4, 5)).pixels, load(tmp_path).pixels)
