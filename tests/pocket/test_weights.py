"""What ships: SD1's module tree and key names, within its size, and a judge that says what its drawings say."""

from __future__ import annotations

import json
import random

import pytest
import torch
from safetensors import safe_open

from loratools.errors import PocketError
from loratools.pocket import weights_folder
from loratools.pocket.architecture import Widths
from loratools.pocket.assemble import build_parts
from loratools.pocket.draw import ATTRIBUTES, FAULTS, STYLES, draw, random_figure
from loratools.pocket.judge import Judge, JudgeNet, Reading


def _keys(name: str) -> dict[str, tuple[int, ...]]:
    with safe_open(weights_folder() / name, "pt") as stream:
        return {key: tuple(stream.get_slice(key).get_shape()) for key in stream.keys()}  # noqa: SIM118


def test_all_of_pocket_stays_within_48_megabytes() -> None:
    files = [path for path in weights_folder().parent.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert sum(path.stat().st_size for path in files) <= 48_000_000
    assert (weights_folder() / "judge/judge.safetensors").stat().st_size <= 4_000_000


def test_weights_fit_the_architecture_and_text_encoder_keys_keep_their_prefix() -> None:
    text = _keys("text_encoder/model.safetensors")
    assert all(key.startswith("text_model.") for key in text)
    unet, vae, _ = build_parts(Widths(), text["text_model.embeddings.token_embedding.weight"][0])
    for part, name in ((unet, "unet"), (vae, "vae")):
        expected = {key: tuple(value.shape) for key, value in part.state_dict().items()}
        assert _keys(f"{name}/diffusion_pytorch_model.safetensors") == expected


def test_every_tensor_is_fp16_and_finite() -> None:
    for path in weights_folder().rglob("*.safetensors"):
        with safe_open(path, "pt") as stream:
            for key in stream.keys():  # noqa: SIM118
                value = stream.get_tensor(key)
                assert torch.isfinite(value.float()).all(), key
                assert value.dtype in (torch.float16, torch.int64), key


def test_the_model_card_holds_the_exam() -> None:
    card = (weights_folder() / "README.md").read_text(encoding="utf-8")
    for needed in ("asked tags found", "visible hands", "Training", "seed"):
        assert needed in card


def test_the_judges_layout_is_the_drawings_vocabulary() -> None:
    random = torch.get_rng_state()
    layout = Judge.load().layout
    assert torch.equal(random, torch.get_rng_state()), "a training's random numbers are the caller's"
    assert dict(layout.attributes) == dict(ATTRIBUTES)
    assert (layout.styles, layout.faults) == (tuple(STYLES), tuple(FAULTS))


def test_the_judge_reads_fresh_drawings() -> None:
    """On drawings that no set held (other seeds): at least 95 % of the shown tags and of the styles."""
    rng = random.Random(20_26)
    figures = [random_figure(rng, style=style) for style in STYLES for _ in range(12)]
    readings = Judge.load().read([draw(figure, 77_000_000 + i).image for i, figure in enumerate(figures)])
    pairs = [
        reading.tags[name] == getattr(figure, name)
        for figure, reading in zip(figures, readings, strict=True)
        for name in figure.visible()
    ]
    assert sum(pairs) / len(pairs) >= 0.95
    styles = [max(r.style, key=r.style.__getitem__) == f.style for f, r in zip(figures, readings, strict=True)]
    assert sum(styles) / len(styles) >= 0.95


@pytest.mark.parametrize("fault", FAULTS)
def test_the_judge_ranks_a_bad_drawing_over_a_sound_one(fault: str) -> None:
    rng = random.Random(5)
    figures = [random_figure(rng, framing="cowboy_shot", pose="arms_up") for _ in range(20)]
    sound = [draw(figure, 88_000_000 + i).image for i, figure in enumerate(figures)]
    bad = [draw(type(f)(**{**vars(f), "faults": {fault: 3}}), 88_000_000 + i).image for i, f in enumerate(figures)]
    judge = Judge.load()
    pairs = zip(judge.read(bad), judge.read(sound), strict=True)
    assert sum(b.faults[fault] > s.faults[fault] for b, s in pairs) >= 18


def test_held_out_scores_meet_their_bars() -> None:
    facts = json.loads((weights_folder() / "judge/judge.json").read_text(encoding="utf-8"))
    scores = facts["scores"]["drawings"]
    assert min(scores["accuracy"].values()) >= 0.95
    assert min(scores["ranked"].values()) >= 0.90


def test_obedience_is_the_share_of_asked_tags() -> None:
    reading = Reading({"hair": "red", "eyes": "blue"}, {}, {})
    assert reading.obeys({"hair": "red", "eyes": "green"}) == 0.5
    assert reading.obeys({}) == 1.0


def test_a_missing_judge_says_where_it_should_be(tmp_path: object) -> None:
    with pytest.raises(PocketError, match="holds no judge"):
        Judge.load(tmp_path)  # type: ignore[arg-type]


def test_the_network_answers_every_question_at_its_size() -> None:
    net = JudgeNet({"style": 3, "fault_hands": 1}).eval()
    logits = net(torch.zeros(2, 3, 128, 128))
    assert {name: tuple(value.shape) for name, value in logits.items()} == {"style": (2, 3), "fault_hands": (2, 1)}
