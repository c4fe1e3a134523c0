"""A figure's scene: every part in its place, from back to front."""

from __future__ import annotations

import random
from dataclasses import replace

from loratools.pocket.draw import accessories, anatomy, clothes, face, faults, hair
from loratools.pocket.draw.background import background
from loratools.pocket.draw.figure import Figure
from loratools.pocket.draw.geometry import bounds
from loratools.pocket.draw.palette import CLOTHES, SKIN
from loratools.pocket.draw.scene import Pen, Scene

_THIRD_ARM = 2.5  # the severity of deformed limbs from which an arm is one too many


def compose(figure: Figure, seed: int) -> Scene:
    """Lay out a figure; the same figure and seed give the same scene."""
    rng = random.Random(f"layout {seed}")
    severity = faults.severities(figure, seed)
    scene = Scene(smear=severity["face"])
    view = anatomy.camera(figure, rng)
    width = anatomy.FRAMINGS[figure.framing].line
    body = Pen(scene, view, width)
    head = Pen(scene, replace(view, tilt=rng.uniform(-3.0, 3.0)), width)
    background(scene, figure.background, random.Random(f"background {seed}"))
    placed = anatomy.arms(figure, view, seed, severity)
    hair.back(head, figure.hair_style, figure.hair_color)
    _body(body, figure, placed, severity, seed)
    _head(head, figure, severity, seed)
    for arm in placed:
        if arm.raised:
            anatomy.draw_over(body, arm, figure)
    faults.scrawl(scene, severity["chaos"], seed)
    scene.boxes = {"face": bounds([head.camera(face.HEAD)]), **anatomy.hand_boxes(view, placed)}
    return scene


def _body(pen: Pen, figure: Figure, placed: list[anatomy.Arm], severity: dict[str, float], seed: int) -> None:
    worn = clothes.wear(pen, figure, severity["clothes"], seed)
    if figure.framing != "face_focus":
        clothes.legs(pen, figure, severity["limbs"], seed)
    clothes.behind(pen, figure, worn)
    clothes.garment(figure, worn)
    arms = list(placed)
    if severity["limbs"] > _THIRD_ARM and figure.framing != "face_focus":
        arms.append(anatomy.third_arm(figure, pen.camera))
    for arm in arms:
        anatomy.draw_arm(pen, arm, figure)
    bare = figure.clothes == "dress"
    for arm in placed:
        anatomy.shoulder_patch(pen, arm, SKIN[figure.skin] if bare else CLOTHES[figure.clothes_color])
    clothes.over(figure, worn)
    clothes.tears(figure, worn)
    if figure.accessory in accessories.ON_BODY:
        accessories.accessory(pen, figure.accessory, figure.hair_color)


def _head(pen: Pen, figure: Figure, severity: dict[str, float], seed: int) -> None:
    warp = faults.face_warp(severity["face"], random.Random(f"face {seed}"))
    front = hair.cap(figure.hair_style, random.Random(f"hair {seed}"))
    if figure.accessory == "cat_ears":
        accessories.accessory(pen, figure.accessory, figure.hair_color)
    face.head(pen, figure.skin)
    face.blush(pen, figure.skin)
    face.fringe_shadow(pen, front, figure.skin)
    face.eyes(pen, figure.eye_color, figure.expression, warp)
    face.mouth(pen, figure.expression, warp)
    hair.front(pen, front, figure.hair_style, figure.hair_color)
    face.brows(pen, figure.expression, warp)
    if figure.accessory not in (*accessories.ON_BODY, "cat_ears"):
        accessories.accessory(pen, figure.accessory, figure.hair_color)
