"""What a pipeline is given for a picture's settings, and what it does not take; no pipeline is made."""

from __future__ import annotations

from typing import Any

import pytest

from loratools.base.pipelines.call import PipelineCall
from loratools.errors import GridError
from loratools.preview.record.cells import SamplingSettings

EULER = "FlowMatchEulerDiscreteScheduler"
PLAIN = {"negative_prompt": None, "guidance_scale": 5.0}
TRUE_CFG = {"negative_prompt": None, "true_cfg_scale": 4.0, "guidance_scale": None}
VIDEO = {**PLAIN, "num_frames": 81}


def settings(**changes: Any) -> SamplingSettings:
    return SamplingSettings(**{"steps": 4, "cfg": 3.0, "sampler": EULER, "size": (32, 48), **changes})


@pytest.mark.parametrize(
    ("call", "cfg", "given"),
    [
        (PipelineCall("StableDiffusion3Pipeline", PLAIN), 3.0, {"guidance_scale": 3.0, "negative_prompt": "bad"}),
        (PipelineCall("StableDiffusion3Pipeline", PLAIN), 1.0, {"guidance_scale": 1.0}),
        (PipelineCall("ZImagePipeline", PLAIN), 3.0, {"guidance_scale": 2.0, "negative_prompt": "bad"}),
        (PipelineCall("ZImagePipeline", PLAIN), 1.0, {"guidance_scale": 0.0}),
        (PipelineCall("QwenImagePipeline", TRUE_CFG), 3.0, {"true_cfg_scale": 3.0, "negative_prompt": "bad"}),
        (PipelineCall("FluxPipeline", TRUE_CFG), 3.0, {"true_cfg_scale": 3.0, "negative_prompt": "bad"}),
        (
            PipelineCall("OwnPipeline", {"distilled_guidance_scale": 3.25}, embedded=True),
            3.0,
            {"distilled_guidance_scale": 3.0},
        ),
    ],
)
def test_a_cfg_scale_is_what_the_pipeline_means_by_it(call: PipelineCall, cfg: float, given: dict[str, Any]) -> None:
    made = call.arguments("a cat", settings(cfg=cfg, negative="bad" if call.negative else ""))
    common = {"prompt": "a cat", "height": 32, "width": 48, "num_inference_steps": 4}
    assert made == {**common, "output_type": "np", "return_dict": False, **given}


def test_a_network_that_is_told_a_number_takes_no_negative_prompt() -> None:
    call = PipelineCall("FluxPipeline", TRUE_CFG, embedded=True)
    assert call.arguments("a cat", settings())["guidance_scale"] == 3.0 and not call.negative
    with pytest.raises(GridError, match="FluxPipeline takes no negative prompt: it was distilled"):
        call.check(settings(negative="bad"), EULER)


def test_an_empty_negative_prompt_is_what_its_makers_say() -> None:
    assert PipelineCall("QwenImagePipeline", TRUE_CFG).arguments("a cat", settings())["negative_prompt"] == " "
    assert PipelineCall("SanaPipeline", PLAIN).arguments("a cat", settings())["negative_prompt"] == ""


@pytest.mark.parametrize(
    ("title", "defaults", "usual"),
    [("SanaPipeline", PLAIN, 5.0), ("ZImagePipeline", PLAIN, 6.0), ("QwenImagePipeline", TRUE_CFG, 4.0)],
)
def test_the_usual_cfg_scale_is_the_signatures(title: str, defaults: dict[str, Any], usual: float) -> None:
    assert PipelineCall(title, defaults).usual_cfg == usual


@pytest.mark.parametrize(
    ("call", "changes", "message"),
    [
        (
            PipelineCall("SanaPipeline", PLAIN),
            {"sampler": "Euler a"},
            f"its folder, {EULER}, and takes no",
        ),
        (PipelineCall("SanaPipeline", PLAIN), {"clip_skip": 2}, "takes no clip skip"),
        (PipelineCall("SanaPipeline", PLAIN), {"noise": "webui-gpu"}, "noise 'webui-gpu' is the WebUI's"),
        (PipelineCall("SanaPipeline", PLAIN), {"cfg": 0.5}, "not guided by a CFG scale of 0.5; use 1 or more"),
        (PipelineCall("Cosmos2TextToImagePipeline", PLAIN), {"cfg": 1.5}, "use 1 or more than 2"),
        (PipelineCall("SanaPipeline", PLAIN), {"frames": 5}, "draws pictures, not videos"),
        (PipelineCall("WanPipeline", VIDEO, frame_step=4), {"frames": 6}, "of 4n \\+ 1 frames, and 6 are none; use 5"),
        (PipelineCall("WanPipeline", VIDEO, frame_step=4), {"frames": 0}, "use 1"),
        (PipelineCall("Flux2KleinPipeline", PLAIN, unguided=True), {"cfg": 3.0}, "takes no CFG scale here"),
        (PipelineCall("Flux2Pipeline", {"guidance_scale": 4.0}), {"negative": "bad"}, "has no such parameter"),
    ],
)
def test_what_a_pipeline_does_not_take_is_one_sentence(
    call: PipelineCall, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(GridError, match=message):
        call.check(settings(**changes), EULER)


def test_a_video_has_its_frames() -> None:
    call = PipelineCall("WanPipeline", VIDEO, frame_step=4)
    call.check(settings(frames=9), EULER)
    assert call.arguments("a cat", settings(frames=9))["num_frames"] == 9


def test_a_size_is_never_another_one_that_is_scaled() -> None:
    call = PipelineCall("SanaPipeline", {**PLAIN, "use_resolution_binning": True})
    assert call.arguments("a cat", settings())["use_resolution_binning"] is False


def test_pipelines_that_draw_upon_a_picture_are_told() -> None:
    assert PipelineCall("QwenImageEditPipeline", {**TRUE_CFG, "image": None}).edits
    assert not PipelineCall("Flux2Pipeline", {"image": None, "guidance_scale": 4.0}).edits
