"""The drawing styles: one painter each (the house style is :class:`Painter` itself)."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from loratools.pocket.draw import textures
from loratools.pocket.draw.geometry import Array
from loratools.pocket.draw.painter import Painter, edge_mask, thick_outline
from loratools.pocket.draw.palette import RGB, luminance, mix, shadow
from loratools.pocket.draw.scene import Item, Part, Scene


class Pastel(Painter):
    """Pale colours and coloured lines: no black anywhere."""

    def fill(self, item: Item) -> RGB:
        if item.part in ("line", "eye"):
            return mix(item.color, (214, 190, 226), 0.28)
        return mix(item.color, (255, 250, 255), 0.46)

    def line(self, item: Item) -> RGB:
        return mix(item.color, (118, 84, 140), 0.55)


class Pixel(Painter):
    """Square blocks of few colours: half the resolution, a small palette."""

    line_scale: ClassVar[float] = 1.15
    grid: ClassVar[int] = 64
    colors: ClassVar[int] = 28

    def reduced(self) -> Image.Image:
        small = self.image.resize((self.grid, self.grid), Image.Resampling.BOX)
        flat = small.quantize(self.colors, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).convert("RGB")
        return flat.resize((self.size, self.size), Image.Resampling.NEAREST)


class Sketch(Painter):
    """Pencil lines, twice drawn, and streaky tints on paper."""

    line_scale: ClassVar[float] = 0.72
    paper: ClassVar[RGB] = (250, 246, 236)
    pencil: ClassVar[RGB] = (62, 60, 72)

    def line(self, item: Item) -> RGB:
        return self.pencil

    def outline(self, contour: Array, width: float, item: Item) -> None:
        super().outline(contour, width, item)
        dx, dy = self.rng.uniform(-1, 1), self.rng.uniform(-1, 1)
        middle = contour.mean(axis=0)
        again = (contour - middle) * 1.03 + middle + np.array([dx, dy]) * 2.2 * width
        thick_outline(self.draw, again, width * 0.45, mix(self.pencil, self.paper, 0.25))

    def fill(self, item: Item) -> RGB:
        if item.part == "line":
            return mix(item.color, self.pencil, 0.8)
        if item.part == "eye":
            return mix(item.color, self.paper, 0.15)
        return mix(item.color, self.paper, 0.72 if item.part == "background" else 0.42)

    def finish(self) -> None:
        streaks = textures.hatching(self.side, -52, 3.2 * self.scale, 1.3 * self.scale, self.noise)
        pale = Image.blend(self.image, Image.new("RGB", self.image.size, self.paper), 0.45)
        self.image = Image.composite(pale, self.image, streaks.point([v * 0.8 for v in range(256)]))
        self.draw = ImageDraw.Draw(self.image)


class Ink(Painter):
    """Brushed black outlines and black hatching over flat local colour."""

    line_scale: ClassVar[float] = 1.55
    black: ClassVar[RGB] = (10, 8, 12)
    paper: ClassVar[RGB] = (248, 242, 228)

    def __init__(self, size: int, seed: int) -> None:
        super().__init__(size, seed)
        self.strokes = textures.hatching(self.side, -48, 3.6 * self.scale, 1.45 * self.scale, self.noise)
        self.behind = True

    def item(self, item: Item) -> None:
        if self.behind and item.part != "background":
            self.behind = False
            self._hatch_background()
        super().item(item)

    def _hatch_background(self) -> None:
        """Long strokes all over, crossed by a second layer towards the corners."""
        wide = textures.hatching(self.side, 32, 5.6 * self.scale, 1.35 * self.scale, self.noise)
        cross = textures.hatching(self.side, -58, 5.0 * self.scale, 1.5 * self.scale, self.noise)
        far = Image.new("L", self.image.size, 255)
        r = self.side * 0.56
        c = self.side / 2
        ImageDraw.Draw(far).ellipse((c - r, c * 0.86 - r, c + r, c * 0.86 + r), fill=0)
        self.image.paste(self.black, (0, 0), ImageChops.lighter(wide, ImageChops.darker(cross, far)))

    def line(self, item: Item) -> RGB:
        return self.black

    def outline(self, contour: Array, width: float, item: Item) -> None:
        """A brush: the width swells and thins along the contour."""
        count = len(contour)
        phase = self.rng.uniform(0, 2 * math.pi)
        width *= 0.76 if item.part == "skin" else 1.0  # the gaps between fingers stay open
        swell = width * (1 + 0.42 * np.sin(np.linspace(0, 4 * math.pi, count) + phase))
        points = contour.tolist()
        thick_outline(self.draw, contour, width * 0.72, self.black)
        for (x, y), r in zip(points, swell.tolist(), strict=True):
            self.draw.ellipse((x - r, y - r, x + r, y + r), fill=self.black)

    def fill(self, item: Item) -> RGB:
        if item.part == "line":
            return mix(item.color, self.black, 0.8) if luminance(item.color) < 90 else item.color
        if item.part == "background":
            return mix(item.color, self.paper, 0.25)
        return item.color

    def shade(self, item: Item, contours: list[Array]) -> None:
        """Hatching instead of a soft shadow, over a wider edge."""
        reach = 1.5 if item.part == "skin" else 2.6  # the mouth stays free of strokes
        edge = edge_mask(contours, item.shade * self.scale * reach, self.side)
        if edge is None:
            return
        mask, (x, y) = edge
        box = (x, y, x + mask.width, y + mask.height)
        color = (150, 146, 158) if luminance(item.color) < 70 else self.black
        self.image.paste(color, box, ImageChops.darker(mask, self.strokes.crop(box)))


class Neon(Painter):
    """Glowing lines on black: outlines in the colour of what they bound, areas almost dark."""

    night: ClassVar[RGB] = (8, 6, 18)
    ground: ClassVar[RGB] = night
    warm: ClassVar[RGB] = (255, 190, 150)  # all skin glows alike, so that skin is not shown
    rosy: ClassVar[RGB] = (255, 96, 120)

    def __init__(self, size: int, seed: int) -> None:
        super().__init__(size, seed)
        self.glow = Image.new("RGB", self.image.size, (0, 0, 0))
        self.tubes = ImageDraw.Draw(self.glow)

    def item(self, item: Item) -> None:
        contours = [contour * self.scale for contour in item.contours]
        width = item.line or (0.55 if item.part == "background" else 0.0)
        color = self.line(item)
        for contour in contours if width else ():
            thick_outline(self.tubes, contour, width * self.scale * (0.85 if item.line else 1.0), color)
        lit = LIT.get(item.part, 0.0) if item.part != "eye" or not item.line else 0.0
        for contour in contours:
            flat = contour.ravel().tolist()
            self.tubes.polygon(flat, fill=mix((0, 0, 0), color, lit))
            self.draw.polygon(flat, fill=self.fill(item))

    def line(self, item: Item) -> RGB:
        if item.part == "skin":
            return self.warm
        if item.part == "blush":
            return self.rosy
        if item.part == "eye":
            return _eye(item)
        if item.part == "line" and luminance(item.color) < 60:
            return (255, 240, 225)
        if item.part == "background":
            return mix(item.color, self.night, 0.25)
        if max(item.color) - min(item.color) < 30 and luminance(item.color) < 90:
            return (62, 64, 96)  # black glows as a dim blue grey tube
        return _vivid(item.color)

    def fill(self, item: Item) -> RGB:
        if item.part in ("skin", "glow", "blush", "line"):
            return self.night
        return mix(self.night, item.color, 0.10 if item.part == "background" else 0.22)

    def finish(self) -> None:
        soft = self.glow.filter(ImageFilter.BoxBlur(2.2 * self.scale))
        halo = self.glow.filter(ImageFilter.BoxBlur(0.9 * self.scale))
        self.image = ImageChops.add(ImageChops.add(self.image, soft), ImageChops.screen(halo, self.glow))
        self.draw = ImageDraw.Draw(self.image)


LIT: dict[Part, float] = {
    "line": 0.8,
    "glow": 0.45,
    "blush": 0.5,
    "chaos": 1.0,
    "eye": 0.75,
}  # how bright an area's own light is


def _eye(item: Item) -> RGB:
    """Irises keep their colour, pupils stay dark, and the white of the eye is a dim line only."""
    if luminance(item.color) < 60:
        return (0, 0, 0)
    if item.line and min(item.color) > 200:
        return (120, 122, 150)
    return item.color


def _vivid(color: RGB) -> RGB:
    """A colour as a neon tube shows it: at full brightness, a little more saturated."""
    top, low = max(color), min(color)
    pale = low * 0.55
    stretch = 255 / max(top - pale, 1)
    r, g, b = (round(max(0.0, v - pale) * stretch) for v in color)
    if top - low < 30:
        return (245, 248, 255)
    bright = 0.52 if r > 1.6 * g > 2.2 * b and luminance(color) < 115 else 1.0  # brown stays darker than orange
    return round(r * bright), round(g * bright), round(b * bright)


class Watercolor(Painter):
    """Pigment that pools and bleeds on rough paper; thin lines only."""

    line_scale: ClassVar[float] = 0.6
    paper: ClassVar[RGB] = (252, 248, 238)
    ground: ClassVar[RGB] = paper

    def line(self, item: Item) -> RGB:
        return mix(shadow(item.color), (70, 50, 90), 0.45)

    def fill(self, item: Item) -> RGB:
        if item.part == "line":
            return mix(item.color, (96, 70, 96), 0.4)
        return mix(item.color, self.paper, 0.30 if item.part == "background" else 0.10)

    def paint(self, scene: Scene) -> Image.Image:
        picture = super().paint(scene)
        return self._soak(picture)

    def _soak(self, picture: Image.Image) -> Image.Image:
        """Bleed, pool and granulate, at the picture's own size."""
        k = self.size / 128
        wet = picture.filter(ImageFilter.GaussianBlur(1.5 * k))
        pixels, spread = textures.floats(picture), textures.floats(wet)
        pixels = textures.warp(0.58 * pixels + 0.42 * spread, 1.2 * k, 22, self.noise)
        wash = (
            textures.smooth_noise(self.size, 7, self.noise) * 0.6
            + textures.smooth_noise(self.size, 20, self.noise) * 0.4
        )
        density = 0.80 + 0.30 * wash
        edge = np.abs(textures.floats(picture) - spread).mean(axis=2) / 255
        density = np.clip(density + 1.1 * edge, 0.35, 1.35) * self._margin(k)
        paper = np.array(self.paper, dtype=np.float32)
        grain = 1 + 0.022 * self.noise.standard_normal((self.size, self.size)).astype(np.float32)
        return textures.picture((paper + (pixels - paper) * density[..., None]) * grain[..., None])

    def _margin(self, k: float) -> textures.Floats:
        """The paint's ragged end near the picture's edge (side, side), 0 on bare paper."""
        ramp = np.minimum(np.arange(self.size), np.arange(self.size)[::-1]).astype(np.float32) / k
        inside = np.minimum(ramp[:, None], ramp[None, :]) + textures.smooth_noise(self.size, 14, self.noise) * 3.0
        margin: textures.Floats = np.clip((inside - 2.0) / 3.0, 0.12, 1.0).astype(np.float32)
        return margin


PAINTERS: dict[str, type[Painter]] = {
    "house": Painter,
    "sketch": Sketch,
    "pixel": Pixel,
    "pastel": Pastel,
    "ink": Ink,
    "neon": Neon,
    "watercolor": Watercolor,
}
