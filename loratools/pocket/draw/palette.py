"""The colours: far apart at 128 px, and the same wherever a tag names them."""

from __future__ import annotations

RGB = tuple[int, int, int]

LINE: RGB = (36, 26, 40)
WHITE: RGB = (252, 252, 252)

HAIR: dict[str, RGB] = {
    "black_hair": (54, 50, 64),
    "brown_hair": (122, 66, 30),
    "blonde_hair": (252, 214, 88),
    "red_hair": (220, 48, 40),
    "blue_hair": (56, 112, 230),
    "green_hair": (64, 172, 72),
    "pink_hair": (255, 150, 192),
    "purple_hair": (142, 72, 200),
    "white_hair": (238, 238, 246),
}
EYES: dict[str, RGB] = {
    "blue_eyes": (48, 128, 250),
    "green_eyes": (36, 186, 72),
    "brown_eyes": (150, 84, 30),
    "red_eyes": (232, 36, 44),
    "purple_eyes": (158, 64, 224),
}
SKIN: dict[str, RGB] = {
    "light_skin": (255, 226, 202),
    "tan": (226, 168, 112),
    "dark_skin": (154, 98, 66),
}
CLOTHES: dict[str, RGB] = {
    "red_clothes": (224, 48, 48),
    "blue_clothes": (48, 108, 226),
    "green_clothes": (52, 168, 84),
    "yellow_clothes": (252, 212, 64),
    "pink_clothes": (255, 146, 190),
    "purple_clothes": (142, 72, 196),
    "white_clothes": (246, 246, 248),
    "black_clothes": (56, 54, 64),
}
TURQUOISE: RGB = (48, 200, 190)
ORANGE: RGB = (246, 138, 44)
SLATE: RGB = (84, 96, 128)
SHOE: RGB = (120, 74, 52)
MOUTH: RGB = (168, 36, 52)
TONGUE: RGB = (250, 130, 140)
EAR_PINK: RGB = (255, 170, 180)


def mix(a: RGB, b: RGB, amount: float) -> RGB:
    """``a`` moved towards ``b`` by ``amount`` in 0..1."""
    return (
        round(a[0] + (b[0] - a[0]) * amount),
        round(a[1] + (b[1] - a[1]) * amount),
        round(a[2] + (b[2] - a[2]) * amount),
    )


def shadow(color: RGB) -> RGB:
    """The one cel shadow of a colour: darker, and a little towards violet."""
    return mix(color, (62, 40, 96), 0.24)


def light(color: RGB) -> RGB:
    """The one highlight of a colour."""
    return mix(color, (255, 255, 255), 0.5)


def luminance(color: RGB) -> float:
    """Rec. 601 luma in 0..255."""
    return 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]
