"""Words that several parts of the data room go by: junk, framing, text in pictures, asymmetry, backgrounds.

All names are as captions have them, in lower case with spaces.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

FACE, MAIN, FULL, OTHER = "face", "main", "full", "other"
CLASSES: Final = (FACE, MAIN, FULL, OTHER)  # of guide 004: face close-up, main visual, full body, and the rest
VARIANTS: Final = "_variants"  # ends the name of a class's folder of variants


def _words(text: str) -> frozenset[str]:
    return frozenset(word.strip() for word in text.split(",") if word.strip())


# what a picture's framing is called, and the class that it makes
FRAMING: Final[dict[str, str]] = {
    "face": FACE,
    "face focus": FACE,
    "close-up": FACE,
    "portrait": FACE,
    "head only": FACE,
    "upper body": MAIN,
    "cowboy shot": MAIN,
    "bust": MAIN,
    "half body": MAIN,
    "full body": FULL,
    "feet": FULL,
    "standing full body": FULL,
}
FRAMING_OF: Final = {FACE: "portrait", MAIN: "upper body", FULL: "full body"}  # the tag that a crop gets
# said of whole figures, and untrue of a crop that shows no legs
LEGS: Final = _words(
    """
    ankle boots, barefoot, boots, cowboy shot, feet, footwear, full body, high heels, kneehighs, knees, legs, pants,
    pantyhose, sandals, shoes, shorts, skirt, sneakers, socks, standing, thighhighs, thighs, toes
    """
)
TEXT_TAGS: Final = _words(
    """
    artist logo, artist name, chinese text, copyright name, copyright notice, dated, english text, instagram
    username, japanese text, korean text, logo, patreon username, pixiv username, sample watermark, signature,
    speech bubble, subtitled, text, text focus, translated, twitter username, username, watermark, web address,
    weibo username
    """
)
TRANSPARENT: Final = "transparent background"
FLAT_BACKGROUND: Final = ("white background", "simple background")  # what it is once it is white
ASYMMETRIC: Final = _words(
    """
    asymmetrical bangs, asymmetrical clothes, asymmetrical hair, asymmetrical legwear, english text, eyepatch, hair
    flower, hair over one eye, heterochromia, mechanical arm, mole under eye, mole under mouth, multicolored eyes,
    one eye covered, one side up, scar across eye, side braid, side ponytail, single bare shoulder, single braid,
    single earring, single glove, single horn, single pauldron, single shoulder, single side bun, single sleeve,
    single thighhigh, single wing, split-color hair, text, two-tone hair, uneven eyes
    """
)
MONOCHROME: Final = _words(
    """
    black and white, grayscale, greyscale, monochrome
    """
)
COUNTS: Final = re.compile(r"(?:\d\+?(?:girl|boy|other)s?)|multiple (?:girls|boys|others)")

_JUNK = _words(
    """
    absurdres, ai upscaled, animated, artist name, artist request, bad id, bad source, character request, check
    translation, commentary, commentary request, commission, copyright request, dated, duplicate, edited, end of
    comic, hard-translated, has bad revision, has downscaled revision, highres, huge filesize, image sample,
    incredibly absurdres, jpeg artifacts, lowres, making-of available, md5 mismatch, metadata, non-web source, novel
    illustration, official art, paid reward, paid reward available, partially translated, photoshop (medium),
    pixel-perfect duplicate, promotional art, resized, revision, scan, scan artifacts, signature, sound, source
    larger, tagme, third-party edit, third-party source, translated, translation request, upscaled, username,
    variant set, video, watermark, web address
    """
)
_JUNK_PATTERN = re.compile(r"(?:.* commentary|bad .+ id|.* request|.* username|.* (?:commission|sample)|.*-translated)")
_NOT_JUNK = frozenset({"free sample", "blood sample"})


@lru_cache(1 << 16)  # a folder has the same tags over and over
def is_junk(name: str) -> bool:
    """Whether a tag says nothing of what is to be seen: a site's bookkeeping, or marks that are to be taken out."""
    name = name.strip().lower()
    return name in _JUNK or (name not in _NOT_JUNK and _JUNK_PATTERN.fullmatch(name) is not None)
