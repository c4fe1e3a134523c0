from __future__ import annotations

import itertools
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from loratools.imaging.png import Part, Pixels, deflate, write_png


def chunks(path: Path) -> list[tuple[bytes, bytes]]:
    """The kinds and data of a PNG's chunks, each checked as the specification has it."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, found = 8, []
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        assert struct.unpack(">I", data[at + 8 + length : at + 12 + length]) == (zlib.crc32(kind + body),)
        found.append((kind, body))
        at += 12 + length
    kinds = [kind for kind, _ in found]
    assert kinds[0] == b"IHDR" and kinds[-1] == b"IEND" and set(kinds[1:-1]) == {b"IDAT"}
    return found


def strict(path: Path) -> Pixels:
    """A PNG's pixels by a decoder of the specification's words, which takes nothing that is not quite right."""
    found = chunks(path)
    width, height, *rest = struct.unpack(">2I5B", found[0][1])
    assert rest == [8, 2, 0, 0, 0]
    packed = b"".join(body for kind, body in found if kind == b"IDAT")
    inflate = zlib.decompressobj()
    raw = inflate.decompress(packed)
    assert inflate.eof and not inflate.unused_data and len(raw) == height * (1 + 3 * width)
    above = np.zeros(3 * width, dtype=int)
    pixels = np.empty((height, 3 * width), dtype=np.uint8)
    for n in range(height):
        kind, line = raw[n * (1 + 3 * width)], raw[n * (1 + 3 * width) + 1 : (n + 1) * (1 + 3 * width)]
        left = np.zeros(3, dtype=int)
        for x in range(width):
            cut = slice(3 * x, 3 * x + 3)
            predicted = {0: 0 * left, 1: left, 2: above[cut], 3: (left + above[cut]) // 2}[kind]
            left = (np.frombuffer(line[cut], np.uint8) + predicted) % 256
            pixels[n, cut] = left
        above = pixels[n].astype(int)
    return pixels.reshape(height, width, 3)


def cut(pixels: Pixels, rows: list[int], columns: list[int]) -> list[list[Part]]:
    """``pixels`` in parts that end at ``rows`` and ``columns``."""
    bands = []
    for top, bottom in zip([0, *rows], rows, strict=False):
        band: list[Part] = []
        for left, right in zip([0, *columns], columns, strict=False):
            own = np.ascontiguousarray(pixels[top:bottom, left:right])
            band.append(deflate(own, pixels[top:bottom, left - 1] if left else None))
        bands.append(band)
    return bands


@pytest.mark.parametrize("seed", range(4))
def test_parts_of_any_shape_join_to_the_picture(tmp_path: Path, seed: int) -> None:
    random = np.random.default_rng(seed)
    height, width = int(random.integers(1, 24)), int(random.integers(1, 40))
    pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
    pixels[:, : width // 2] = random.integers(0, 256, 3)  # runs, too
    rows = sorted({*random.integers(1, height + 1, 3).tolist(), height})
    columns = sorted({*random.integers(1, width + 1, 4).tolist(), width})
    bands = cut(pixels, rows, columns)
    write_png(tmp_path / "a.png", (width, height), bands)
    assert np.array_equal(strict(tmp_path / "a.png"), pixels)
    with Image.open(tmp_path / "a.png") as image:
        image.verify()
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == "RGB" and np.array_equal(np.asarray(image), pixels)
    assert all(part.follows(before) for band in bands for before, part in itertools.pairwise(band))


def test_the_checksum_is_zlibs_over_long_data(tmp_path: Path) -> None:
    pixels = np.full((300, 900, 3), 255, dtype=np.uint8)
    pixels[::7] = 3
    write_png(tmp_path / "a.png", (900, 300), cut(pixels, [1, 299, 300], [1, 450, 900]))
    with Image.open(tmp_path / "a.png") as image:
        assert np.array_equal(np.asarray(image), pixels)
    packed = b"".join(body for kind, body in chunks(tmp_path / "a.png") if kind == b"IDAT")
    assert len(zlib.decompress(packed)) == 300 * 2701  # raises for a wrong Adler-32


def test_a_part_says_after_which_pixels_it_was_deflated() -> None:
    pixels = np.zeros((2, 4, 3), dtype=np.uint8)
    (first, second), (other, _) = cut(pixels, [2], [2, 4])[0], cut(pixels + 1, [2], [2, 4])[0]
    assert second.follows(first) and not second.follows(other) and not first.follows(second)


@pytest.mark.parametrize("size", [(4, 3), (4, 1), (5, 2), (3, 2)])
def test_parts_that_make_another_picture_leave_no_file(tmp_path: Path, size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="scanline"):
        write_png(tmp_path / "a.png", size, cut(np.zeros((2, 4, 3), dtype=np.uint8), [2], [4]))
    assert not list(tmp_path.iterdir())
