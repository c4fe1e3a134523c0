"""Pictures of every kind that people have are opened upright and in the brightness that their file says."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from loratools.dataset.images import is_grey, open_image, open_mask, read_header
from loratools.errors import DatasetError

RAMP = np.linspace(0, 1, 256)[None, :] * np.ones((64, 1))  # black to white, left to right
COUNTS = np.rint(RAMP * 65535).astype(np.uint16)


def png(path: Path, colour: int, values: np.ndarray, *chunks: tuple[bytes, bytes]) -> None:
    """A PNG with 16 bits a channel, of ``values`` (rows, columns, channels); Pillow writes none in colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0))
    rest = b"".join(chunk(*each) for each in chunks) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + rest)


def tiff(path: Path, values: np.ndarray, tag: int, value: int) -> None:
    """A TIFF of which one tag is rewritten after Pillow has written its own."""
    Image.fromarray(values).save(path)
    data = bytearray(path.read_bytes())
    entry = data.index(struct.pack("<HHI", tag, 3, 1)) + 8  # a single short
    data[entry : entry + 2] = struct.pack("<H", value)
    path.write_bytes(data)


def grey16(values: np.ndarray = COUNTS) -> Image.Image:
    return Image.fromarray(values)


WIDE: dict[str, Callable[[Path], None]] = {
    "16.png": lambda path: grey16().save(path),
    "16.tif": lambda path: grey16().save(path),
    "16 lzw.tiff": lambda path: grey16().save(path, compression="tiff_lzw"),
    "big endian.tif": lambda path: Image.fromarray(COUNTS.astype(">u2")).save(path),
    "16.pgm": lambda path: grey16().save(path),
    "float.tif": lambda path: Image.fromarray(RAMP.astype(np.float32)).save(path),
    "float of 8 bits.tif": lambda path: Image.fromarray(np.rint(RAMP * 255).astype(np.float32)).save(path),
    "float of 16 bits.tif": lambda path: Image.fromarray(COUNTS.astype(np.float32)).save(path),
    "8 in 32.tif": lambda path: Image.fromarray(np.rint(RAMP * 255).astype(np.int32)).save(path),
    "16 in 32.tif": lambda path: Image.fromarray(COUNTS.astype(np.int32)).save(path),
    "signed 32.tif": lambda path: Image.fromarray((RAMP * (2**31 - 1)).astype(np.int32)).save(path),
    "unsigned 32.tif": lambda path: tiff(path, (RAMP * (2**32 - 1)).astype(np.uint32).view(np.int32), 339, 1),
    "16 alpha.png": lambda path: png(path, 4, np.stack([COUNTS, np.full_like(COUNTS, 65535)], -1)),
    "16 colour.png": lambda path: png(path, 2, np.stack([COUNTS] * 3, -1)),
    "16 colour alpha.png": lambda path: png(path, 6, np.stack([COUNTS] * 3 + [np.full_like(COUNTS, 65535)], -1)),
}


@pytest.mark.parametrize("name", WIDE)
def test_more_than_8_bits_are_scaled_and_never_cut(name: str, tmp_path: Path) -> None:
    WIDE[name](tmp_path / name)
    assert read_header(tmp_path / name).size == (256, 64)
    seen = np.asarray(open_image(tmp_path / name)).astype(int)
    assert np.abs(seen - np.rint(RAMP * 255)[..., None]).max() <= 1


def test_a_tiff_whose_white_is_zero_is_inverted(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tiff(path, COUNTS, 262, 0)  # photometric interpretation
    assert open_image(path).getpixel((0, 0)) == (255, 255, 255) and open_image(path).getpixel((255, 0)) == (0, 0, 0)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (np.full((64, 64), 3.5), "from 3.5 to 3.5 in floating point"),
        (RAMP * 254.6, "in floating point"),
        (np.where(RAMP < 0.5, np.nan, RAMP), "in floating point"),
        (RAMP - 0.5, "from -0.5 to 0.5 in floating point"),
        (np.rint(RAMP * 4095).astype(np.uint16), "from 0 to 4095 in 16 bits"),
        (np.rint(RAMP * 200 - 100).astype(np.int32), "from -100 to 100 in 32 bits"),
    ],
)
def test_values_that_do_not_tell_what_is_white_are_refused_by_the_header(
    values: np.ndarray, kind: str, tmp_path: Path
) -> None:
    values = values.astype(np.float32) if values.dtype == np.float64 else values
    signed = {"tiffinfo": {339: 2}} if values.dtype == np.int32 else {}
    Image.fromarray(values).save(tmp_path / "a.tif", **signed)
    for look in (read_header, open_image):
        with pytest.raises(DatasetError, match=rf"a\.tif cannot be read.*{kind}, which does not tell what is white"):
            look(tmp_path / "a.tif")


def test_a_black_picture_and_a_16_bit_mask_are_no_mistake(tmp_path: Path) -> None:
    grey16(np.zeros((64, 256), np.uint16)).save(tmp_path / "black.png")
    assert np.asarray(open_image(tmp_path / "black.png")).max() == 0
    grey16().save(tmp_path / "mask.png")
    mask = open_mask(tmp_path / "black.png", tmp_path / "mask.png", alpha=False)
    assert mask is not None and abs(np.asarray(mask).mean() - 127.5) < 0.1


def test_transparency_of_every_kind_becomes_white(tmp_path: Path) -> None:
    white, size = (255, 255, 255), (8, 8)
    palette = Image.new("P", size, 1)
    palette.putpalette([0, 0, 0, 200, 0, 0])
    palette.save(tmp_path / "palette.png", transparency=1)
    Image.new("LA", size, (10, 0)).save(tmp_path / "la.png")
    Image.new("RGB", size, (1, 2, 3)).save(tmp_path / "key.png", transparency=(1, 2, 3))
    some = np.where(np.arange(8) < 6, 1000, 65535).astype(np.uint16)[None].repeat(8, 0)
    grey16(some).save(tmp_path / "grey16.png", transparency=1000)
    png(tmp_path / "colour16.png", 2, np.full((8, 8, 3), 1000), (b"tRNS", struct.pack(">3H", 1000, 1000, 1000)))
    Image.new("RGBA", size, (1, 2, 3, 0)).save(tmp_path / "a.webp", lossless=True)
    for path in sorted(tmp_path.iterdir()):
        assert read_header(path).transparent and open_image(path).getpixel((3, 3)) == white, path.name
        opacity = open_mask(path, None, alpha=True)
        assert opacity is not None and opacity.getpixel((3, 3)) == 0, path.name


def test_cmyk_and_one_bit(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.tif")
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=100)
    Image.new("1", (8, 8), 1).save(tmp_path / "one.png")
    assert open_image(tmp_path / "a.tif").getpixel((3, 3)) == (255, 0, 0)
    red, green, blue = np.asarray(open_image(tmp_path / "a.jpg"))[3, 3].astype(int)
    assert red > 240 and green < 15 and blue < 15
    assert open_image(tmp_path / "one.png").getpixel((3, 3)) == (255, 255, 255)


@pytest.mark.parametrize("name", ["a.jpg", "a.jfif", "a.jpe", "a.png", "a.webp", "a.tif", "a.tiff", "a.avif"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_turned_picture_has_the_size_that_it_is_opened_with(name: str, orientation: int, tmp_path: Path) -> None:
    if name.endswith("avif") and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    path, exif, image = tmp_path / name, Image.Exif(), Image.new("RGB", (64, 32), "black")
    image.paste("white", (0, 0, 32, 16))
    exif[0x0112] = orientation
    image.save(path, {"jfif": "JPEG", "jpe": "JPEG"}.get(name[2:]), exif=exif)
    opened = open_image(path)
    assert read_header(path).size == opened.size == ((32, 64) if orientation > 4 else (64, 32))
    width, height = opened.size
    corner = {1: (2, 2), 3: (width - 3, height - 3), 6: (width - 3, 2), 8: (2, height - 3)}[orientation]
    assert (
        min(opened.getpixel(corner)) > 200
        and max(opened.getpixel((width - 1 - corner[0], height - 1 - corner[1]))) < 60
    )  # type: ignore[arg-type, type-var]


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp", "a.tif"])
def test_of_several_frames_the_first_is_opened(name: str, tmp_path: Path) -> None:
    red, blue = Image.new("RGB", (16, 16), "red"), Image.new("RGB", (16, 16), "blue")
    red.save(tmp_path / name, save_all=True, append_images=[blue])
    assert read_header(tmp_path / name).animated
    assert np.abs(np.asarray(open_image(tmp_path / name))[5, 5].astype(int) - [255, 0, 0]).max() < 10
    red.save(tmp_path / f"one{name}")
    assert not read_header(tmp_path / f"one{name}").animated


def test_a_picture_without_colour_is_known(tmp_path: Path) -> None:
    grey16().save(tmp_path / "16.png")
    ramp = Image.fromarray(np.rint(RAMP * 255).astype(np.uint8))
    ramp.convert("RGB").save(tmp_path / "rgb.jpg")
    Image.new("RGB", (64, 64), (90, 80, 70)).save(tmp_path / "brown.png")
    spot = ramp.convert("RGB")
    spot.paste("red", (0, 0, 40, 40))
    spot.save(tmp_path / "spot.png")
    assert [is_grey(tmp_path / name) for name in ("16.png", "rgb.jpg", "brown.png", "spot.png")] == [
        *(True, True),
        *(False, False),
    ]


def test_a_kind_that_this_pillow_does_not_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.avif").write_bytes(b"\0\0\0\x18ftypnone")
    Image.init()
    monkeypatch.delitem(Image.OPEN, "AVIF", raising=False)
    monkeypatch.setattr(Image, "ID", [kind for kind in Image.ID if kind != "AVIF"])
    with pytest.raises(DatasetError, match=r"a\.avif cannot be read: this Pillow reads no \.avif"):
        read_header(tmp_path / "a.avif")
