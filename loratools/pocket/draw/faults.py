"""The faults of a drawing, from their grades to numbers that the other modules draw with."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np

from loratools.pocket.draw.figure import FAULTS, Figure
from loratools.pocket.draw.geometry import Array, rotate
from loratools.pocket.draw.palette import CLOTHES, HAIR, LINE, RGB
from loratools.pocket.draw.scene import FRAME, PICTURE, Pen, Scene

Offset = tuple[float, float]


def severities(figure: Figure, seed: int) -> dict[str, float]:
    """A severity a fault: 0 where there is none or it cannot be seen, else its grade within a quarter."""
    rng = random.Random(f"severity {seed}")
    spread = {fault: rng.uniform(-0.25, 0.25) for fault in FAULTS}
    shown = figure.visible_faults()
    return {f: figure.grade(f) + spread[f] if figure.grade(f) and f in shown else 0.0 for f in FAULTS}


@dataclass(frozen=True, slots=True)
class FaceWarp:
    """How far the features are out of place, in figure units, degrees and factors."""

    eyes: tuple[Offset, Offset] = ((0.0, 0.0), (0.0, 0.0))
    scales: tuple[float, float] = (1.0, 1.0)
    mouth: Offset = (0.0, 0.0)
    turn: float = 0.0


def face_warp(severity: float, rng: random.Random) -> FaceWarp:
    """Displaced, uneven features; each grows in proportion to the severity."""
    if severity <= 0:
        return FaceWarp()
    side = rng.choice((-1, 1))
    up = rng.choice((-1, 1))
    eye = (-0.02 * severity * side, 0.085 * severity * up)
    other = (0.03 * severity * side, -0.04 * severity * up)
    scales = (1 - 0.13 * severity, 1 + 0.05 * severity)
    eyes = (eye, other) if side > 0 else (other, eye)
    return FaceWarp(
        eyes, scales if side > 0 else (scales[1], scales[0]), (0.09 * severity * side, 0.0), 11 * severity * up
    )


def kink(points: Array, severity: float, rng: random.Random, grows: bool) -> Array:
    """A limb (n, 2) from its root, made longer or shorter and broken sideways at the joint."""
    if severity <= 0:
        return points
    length = 1 + (0.13 if grows else -0.14) * severity
    changed: Array = points[0] + (points - points[0]) * length
    along = changed[-1] - changed[0]
    across = np.array([-along[1], along[0]]) / max(float(np.hypot(*along)), 1e-6)
    changed[1:-1] += across * 0.17 * severity * rng.choice((-1, 1))
    return changed


def ragged(contour: Array, severity: float, rng: random.Random) -> Array:
    """A garment's contour (n, 2), its lower edge torn into deeper and deeper points."""
    if severity <= 0:
        return contour
    bottom = float(contour[:, 1].max())
    low = contour[:, 1] > bottom - 0.16
    depth = np.array([rng.uniform(0.5, 1.0) for _ in contour]) * (np.arange(len(contour)) % 2)
    torn = contour.copy()
    torn[:, 1] -= np.where(low, depth * 0.17 * severity, 0.0)
    return torn


def holes(
    pen: Pen, box: tuple[float, float, float, float], severity: float, colors: tuple[RGB, RGB], seed: str
) -> None:
    """Holes with torn edges, and patches, within a box of figure units; more and larger with the severity."""
    rng = random.Random(seed)
    across, down = rng.random(), rng.random()
    for index in range(round(2.9 * severity)):
        # a low-discrepancy sequence keeps them apart
        x = box[0] + (box[2] - box[0]) * ((across + 0.755 * index) % 1)
        y = box[1] + (box[3] - box[1]) * ((down + 0.570 * index) % 1)
        place = np.array([x, y])
        size = (0.075 + 0.038 * severity) * rng.uniform(0.85, 1.15)
        if index % 3 == 2:
            square = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * size
            pen.shape(rotate(square, rng.uniform(-30, 30)) + place, color=colors[1], part="clothes", line=0.6)
            continue
        turns = np.linspace(0, 2 * np.pi, 12, endpoint=False)
        radius = np.where(np.arange(12) % 2, 0.55, 1.15) * size
        star = np.stack([np.cos(turns) * radius * 1.25, np.sin(turns) * radius], axis=1) + place
        pen.shape(star, color=colors[0], part="skin", line=0.6)


def scrawl(scene: Scene, severity: float, seed: int) -> None:
    """Chaos: strokes and blots of any colour over everything, their number growing with the severity."""
    if severity <= 0:
        return
    rng = random.Random(f"chaos {seed}")
    colors = (*HAIR.values(), *CLOTHES.values(), LINE)
    pen = Pen(scene, PICTURE, 1.0)
    for index in range(round(4 * severity**1.35)):
        color = rng.choice(colors)
        x, y = rng.uniform(14, FRAME - 14), rng.uniform(14, FRAME - 14)
        if index % 4 == 3:
            turns = np.linspace(0, 2 * np.pi, 11, endpoint=False)
            radius = np.array([rng.uniform(0.5, 1.3) for _ in turns]) * rng.uniform(4, 8)
            blot = np.stack([np.cos(turns) * radius + x, np.sin(turns) * radius + y], axis=1)
            pen.shape(blot, color=color, part="chaos", line=0.0)
            continue
        points = [(x, y)]
        for _ in range(3):
            across, down = (rng.choice((-1, 1)) * rng.uniform(9, 22) for _ in range(2))
            x, y = (min(max(v, 3.0), FRAME - 3) for v in (x + across, y + down))
            points.append((x, y))
        pen.stroke(points, color, rng.uniform(2.0, 3.4), part="chaos")
