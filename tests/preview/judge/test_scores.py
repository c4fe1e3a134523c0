from __future__ import annotations

import json
import weakref
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from loratools.errors import DatasetError, FileError, FormatError
from loratools.measures import pictures
from loratools.measures.features import Pixels, load_features
from loratools.measures.pictures import Pictures
from loratools.pocket.judge import Reading
from loratools.preview.judge import scores
from loratools.preview.judge.scores import Comparison, PictureScores, Scoring
from loratools.preview.record.grid import Grid, PictureScore
from tests.preview.sheet.test_sheet import flat_grid


def noisy(seed: int, side: int = 48) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 255, (6, 6, 3), np.uint8)
    return Image.fromarray(small).resize((side, side), Image.Resampling.BILINEAR)


@pytest.fixture
def grid(tmp_path: Path) -> Grid:
    """One row at three weights; the base is picture 0, weight 0.5 all but a copy of it, weight 1 training image 7."""
    made = flat_grid(tmp_path, rows=1, prompts=1, seeds=1)
    base = noisy(0)
    for picture, image in zip(made.pictures, (base, Image.blend(base, noisy(1), 0.1), noisy(7)), strict=True):
        image.save(tmp_path / picture.file)
    return replace(made, pictures=tuple(replace(p, key=f"k{n}") for n, p in enumerate(made.pictures)))


@pytest.fixture
def training(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for seed in (5, 6, 7, 8):
        noisy(seed).save(folder / f"{seed}.png")
    return folder


def score_pictures(folder: Path, grid: Grid, scoring: Scoring) -> dict[str, tuple[PictureScore, ...]]:
    return PictureScores(folder, scoring).scores(grid)


def by_name(scores: Sequence[PictureScore]) -> dict[str, PictureScore]:
    return {score.name: score for score in scores}


def test_distance_from_the_base_and_the_nearest_training_image(tmp_path: Path, grid: Grid, training: Path) -> None:
    scored = score_pictures(tmp_path, grid, Scoring(training=training, held_out=training))
    base, near, copy = (by_name(scored[key]) for key in ("k0", "k1", "k2"))
    assert base["from base (pixels)"].text == "from base 0.00"
    assert near["from base (pixels)"].part < 0.05 < 0.5 < copy["from base (pixels)"].part  # type: ignore[operator]
    assert copy["nearest (pixels)"].text == "nearest 1.00!" and not base["nearest (pixels)"].text.endswith("!")
    assert 0 <= copy["held-out (pixels)"].part < 1  # type: ignore[operator]
    (tmp_path / "none").mkdir()
    with pytest.raises(DatasetError, match="there are no images in"):
        score_pictures(tmp_path, grid, Scoring(training=tmp_path / "none"))
    (training / "9.png").write_bytes(b"no")
    with pytest.raises(DatasetError, match=r"9\.png cannot be read"):
        score_pictures(tmp_path, grid, Scoring(training=training))


class Plain:
    """Features of pictures that are vectors already."""

    name = "plain"

    def images(self, images: Sequence[torch.Tensor]) -> torch.Tensor:
        return torch.stack(list(images))

    def texts(self, texts: Sequence[str]) -> None:
        return None


def test_only_what_is_mostly_a_training_image_is_marked_as_near_as_a_copy() -> None:
    """Images that have nothing in common make any likeness unusual; that alone is no copy."""
    assert near_marks([0.3, 0.6, 0.8], base=None) == ["nearest 0.30", "nearest 0.60", "nearest 0.80!"]


def test_a_copy_is_what_the_lora_brought_near_and_not_what_the_base_shows_anyhow() -> None:
    """0.13 and 0.64 are those of an overfit epoch that drew a training picture's pose, 0.47 and 0.63 of two sunsets."""
    assert near_marks([0.13, 0.64], base=0) == ["nearest 0.13", "nearest 0.64!"]
    assert near_marks([0.47, 0.63, 0.8], base=0) == ["nearest 0.47", "nearest 0.63", "nearest 0.80!"]
    assert near_marks([0.9, 0.9], base=0) == ["nearest 0.90", "nearest 0.90"]


def near_marks(shares: list[float], base: int | None) -> list[str]:
    """The figures of pictures that are so near to one of four images that have nothing in common."""
    trained = list(torch.eye(8)[:4])
    shown = [share * trained[0] + (1 - share**2) ** 0.5 * torch.eye(8)[7] for share in shares]
    compared = Comparison(Plain(), {"nearest": trained})  # type: ignore[dict-item]
    before = None if base is None else shown[base]
    return [compared.scores(own, before, None)[-1].text for own in shown]


def test_the_judge_reads_tags_defects_and_style(tmp_path: Path, grid: Grid, training: Path) -> None:
    def judge(images: Sequence[Image.Image]) -> list[Reading]:
        return [Reading({"framing": "full_body"}, {"ink": 0.9, "flat": 0.1}, {"hands": 1.5}) for _ in images]

    asked = replace(grid, prompts=("1girl, full body, smile",))
    scored = by_name(score_pictures(tmp_path, asked, Scoring(judge=judge, training=training))["k1"])
    assert scored["tags (judge)"].text == "tags 50 %" and scored["defects (judge)"].part == 0.5
    assert scored["style (judge)"].part == pytest.approx(1)


def tiny_clip(folder: Path) -> Path:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig, PreTrainedTokenizerFast

    torch.manual_seed(0)
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = CLIPTextConfig(**small, vocab_size=8, max_position_embeddings=8, eos_token_id=2, bos_token_id=1)
    vision = CLIPVisionConfig(**small, image_size=16, patch_size=8)
    CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=8)).save_pretrained(
        folder
    )
    words = Tokenizer(models.WordLevel({"<pad>": 0, "<s>": 1, "</s>": 2, "1girl": 3, "cat": 4, "?": 5}, "?"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="</s>", bos_token="<s>", unk_token="?"
    ).save_pretrained(folder)
    return folder


def tiny_dino(folder: Path) -> Path:
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    config = Dinov2Config(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14)
    Dinov2Model(config).save_pretrained(folder)
    features = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
    (folder / "preprocessor_config.json").write_text(json.dumps(features))
    return folder


def test_local_models_are_loaded_and_compare(tmp_path: Path, grid: Grid, training: Path) -> None:
    models = tuple(load_features(made(tmp_path / made.__name__)) for made in (tiny_clip, tiny_dino))
    scored = score_pictures(tmp_path, grid, Scoring(models, training=training))
    near, copy = by_name(scored["k1"]), by_name(scored["k2"])
    assert list(near) == ["from base (CLIP)", "nearest (CLIP)", "prompt (CLIP)", "from base (DINO)", "nearest (DINO)"]
    for model in ("CLIP", "DINO"):
        assert copy[f"nearest ({model})"].text.startswith("nearest 1.00")
        assert near[f"from base ({model})"].part < copy[f"from base ({model})"].part  # type: ignore[operator]
    other = by_name(score_pictures(tmp_path, replace(grid, prompts=("cat cat",)), Scoring(models))["k1"])
    assert other["prompt (CLIP)"].text != near["prompt (CLIP)"].text or other["prompt (CLIP)"].part == 0


def test_features_are_transformers_own(tmp_path: Path) -> None:
    from transformers import AutoModel, CLIPModel

    image, clip = noisy(3, 16), tiny_clip(tmp_path / "clip")
    mean, deviation = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
    pixels = (torch.from_numpy(np.asarray(image).copy()).float() / 255 - torch.tensor(mean)) / torch.tensor(deviation)
    model = CLIPModel.from_pretrained(clip).eval()
    with torch.no_grad():
        features = model.get_image_features(pixel_values=pixels.permute(2, 0, 1)[None])
    wanted = getattr(features, "pooler_output", features)
    assert torch.allclose(load_features(clip).images([image]), wanted / wanted.norm(), atol=1e-5)
    assert AutoModel is not None and Pixels().images([image]).norm() == pytest.approx(1)


def test_what_is_no_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="holds no model"):
        load_features(tmp_path)
    for text, message in (
        ("[]", "not a model's config"),
        ('{"model_type": "bert"}', "'bert' model"),
        ('{"model_type": "clip"}', "clip model in .* cannot be loaded"),
    ):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(FormatError, match=message):
            load_features(tmp_path)


def test_pictures_are_opened_one_after_another(
    tmp_path: Path, grid: Grid, training: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A grid of thousands of pictures is scored in the memory of a few: none outlives its turn."""
    alive: list[weakref.ref[Image.Image]] = []
    most = 0
    opened = pictures.open_image

    def watched(path: Path) -> Image.Image:
        nonlocal most
        image = opened(path)
        alive.append(weakref.ref(image))
        most = max(most, sum(ref() is not None for ref in alive))
        return image

    for module in (pictures, scores):
        monkeypatch.setattr(module, "open_image", watched)
    score_pictures(tmp_path, grid, Scoring(training=training))
    assert len(alive) == 7 and most <= 3  # an image that is compared with, the one before, and the picture
    assert len(Pictures([Path("a"), Path("b"), Path("c")])[1:]) == 2
