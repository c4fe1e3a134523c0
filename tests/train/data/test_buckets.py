from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from loratools.dataset.images import fit
from loratools.train.data.buckets import BucketRules, bucket_of, bucket_sizes


def test_counts_are_those_of_sd_scripts() -> None:
    assert len(bucket_sizes(BucketRules((512, 512), True, 256, 1024, 64))) == 17
    assert len(bucket_sizes(BucketRules((1024, 1024), True, 256, 2048, 64))) == 41


def test_sizes_are_whole_steps_within_the_area() -> None:
    sizes = bucket_sizes(BucketRules((512, 768), True, 256, 1024, 64))
    assert all(w % 64 == 0 and h % 64 == 0 and w * h <= 512 * 768 for w, h in sizes)
    assert (512, 768) in sizes and (768, 512) in sizes


@pytest.mark.parametrize(
    ("size", "bucket"),
    [((512, 512), (512, 512)), ((3000, 2000), (640, 384)), ((100, 400), (256, 1024)), ((40, 41), (512, 512))],
)
def test_nearest_ratio(size: tuple[int, int], bucket: tuple[int, int]) -> None:
    rules = BucketRules((512, 512), True, 256, 1024, 64)
    chosen = bucket_of(size, rules, bucket_sizes(rules))
    ratio = size[0] / size[1]
    assert chosen == bucket
    assert all(abs(w / h - ratio) >= abs(chosen[0] / chosen[1] - ratio) for w, h in bucket_sizes(rules))


def test_disabled_uses_the_resolution_alone() -> None:
    rules = BucketRules((512, 640), enabled=False)
    assert bucket_sizes(rules) == [(512, 640)] and bucket_of((30, 9), rules, [(512, 640)]) == (512, 640)


@given(st.integers(64, 3000), st.integers(64, 3000))
def test_no_upscale_never_grows_an_image(width: int, height: int) -> None:
    rules = BucketRules((512, 512), True, 256, 1024, 64, no_upscale=True)
    chosen = bucket_of((width, height), rules, [])
    assert chosen[0] % 64 == 0 and chosen[1] % 64 == 0 and min(chosen) >= 64
    assert chosen[0] <= max(width, 64) and chosen[1] <= max(height, 64)


@given(st.integers(20, 300), st.integers(20, 300))
def test_fit_covers_and_crops(width: int, height: int) -> None:
    assert fit(Image.new("RGB", (width, height)), (64, 128)).size == (64, 128)


def test_fit_crops_the_centre() -> None:
    image = Image.new("RGB", (192, 64), "red")
    image.paste((0, 0, 255), (64, 0, 128, 64))
    assert fit(image, (64, 64)).getcolors() == [(64 * 64, (0, 0, 255))]
