"""Aspect-ratio buckets: which size each image is trained at, and how it is resized and cropped to it.

The rules are sd-scripts': every bucket's area is at most the training resolution's, an image goes to the bucket of the
nearest aspect ratio, is resized until it covers that, and is cropped at the centre.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from loratools.dataset.folder import Size


@dataclass(frozen=True)
class BucketRules:
    """``resolution`` is (width, height); without ``enabled`` every image is trained at just that."""

    resolution: Size
    enabled: bool = True
    smallest: int = 256
    largest: int = 1024
    steps: int = 64
    no_upscale: bool = False


def bucket_sizes(rules: BucketRules) -> list[Size]:
    """Every bucket, sorted: the square one, then widths from smallest to largest with the tallest height that fits.

    512x512 with 256..1024 by 64 gives 17; 1024x1024 with 256..2048 by 64 gives 41.
    """
    if not rules.enabled:
        return [rules.resolution]
    area, step = rules.resolution[0] * rules.resolution[1], rules.steps
    square = math.isqrt(area) // step * step
    sizes = {(square, square)} if square else {rules.resolution}
    for width in range(max(rules.smallest // step, 1) * step, rules.largest + 1, step):
        height = min(rules.largest // step * step, area // width // step * step)
        if height >= max(rules.smallest, step):
            sizes |= {(width, height), (height, width)}
    return sorted(sizes)


def bucket_of(size: Size, rules: BucketRules, sizes: list[Size]) -> Size:
    """The bucket of an image of ``size`` (width, height): its own size if that is one, else the nearest ratio's."""
    if not rules.enabled:
        return rules.resolution
    if rules.no_upscale:
        return _shrunk_only(size, rules)
    if size in sizes:
        return size
    ratio = size[0] / size[1]
    return min(sizes, key=lambda bucket: (abs(bucket[0] / bucket[1] - ratio), bucket))


def _shrunk_only(size: Size, rules: BucketRules) -> Size:
    """The image's own size, brought under the resolution's area if it is above, rounded down to whole steps.

    When it shrinks, one side is rounded to whole steps first and the other follows; the better ratio of the two wins.
    """
    width, height = size
    area, step, ratio = rules.resolution[0] * rules.resolution[1], rules.steps, width / height
    if width * height <= area:
        return _whole(width, step), _whole(height, step)
    wide, tall = _whole(math.sqrt(area * ratio), step), _whole(math.sqrt(area / ratio), step)
    choices = [(wide, _whole(wide / ratio + 0.5, step)), (_whole(tall * ratio + 0.5, step), tall)]
    return min(choices, key=lambda bucket: abs(bucket[0] / bucket[1] - ratio))


def _whole(length: float, step: int) -> int:
    return max(int(length) // step, 1) * step
