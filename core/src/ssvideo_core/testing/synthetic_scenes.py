"""Pictures and sound of the embedded data set: eight classes, and all that does not depend on them.

A class is a shape, a motion and a pitch together. Everything else (`Scene`) is drawn without
knowing the class. Every shape covers the same area on average over one period of its motion, so
that the share of bright pixels does not give the class away; `synthetic` says what was measured.

Lengths are shares of the frame's side, times are seconds; T frames, H = W = size, N samples.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ssvideo_core.errors import ConfigError
from ssvideo_core.randomness import generator

Array = NDArray[np.float64]

SOUND_RATE_HZ = 24000
LOWEST_PITCH_HZ = 220.0
OCTAVES_PER_CLASS = 0.55
MOTION_AMPLITUDE = 0.1
RING_HOLE = 0.55  # radius of the hole, as a share of the ring's
PULSE_SWING = 0.35
SQUASH_SWING = 0.35
BLINK_SHARE = 2 / 3  # of a period in which blinking shapes are seen
CLASSES = ("horizontal", "vertical", "orbit", "spin", "pulse", "squash", "blink", "still")


@dataclass(frozen=True)
class Shape:
    """Outline radius * (1 + depth * cos(lobes * angle)), with a round hole or none."""

    lobes: int
    depth: float
    hole: float = 0.0

    @property
    def area(self) -> float:
        """As a multiple of radius^2."""
        return float(np.pi * (1 + self.depth**2 / 2 - self.hole**2))


SHAPES: dict[str, Shape] = {
    "horizontal": Shape(lobes=1, depth=0.0),
    "vertical": Shape(lobes=2, depth=0.45),
    "orbit": Shape(lobes=3, depth=0.4),
    "spin": Shape(lobes=4, depth=0.4),
    "pulse": Shape(lobes=5, depth=0.35),
    "squash": Shape(lobes=1, depth=0.0, hole=RING_HOLE),
    "blink": Shape(lobes=2, depth=0.7),
    "still": Shape(lobes=8, depth=0.3),
}


@dataclass(frozen=True)
class Scene:
    """What a video looks and sounds like apart from its class.

    background: [3] RGB, 20 to 110; colour: of the shapes, [3], 150 to 255, always brighter.
    texture: [8, 8, 3], added to the background in squares. places: [4, 2] centres (y, x).
    radius: of a disc with a shape's area. orientation, phase: radians. rate_hz: of the motion;
    direction: 1 or -1. pitch_shift: octaves. level, hiss: amplitudes of tone and white noise.
    noise_seed: of the pixels' noise and the hiss.
    """

    background: Array
    colour: Array
    texture: Array
    places: Array
    radius: float
    orientation: float
    rate_hz: float
    phase: float
    direction: int
    pitch_shift: float
    level: float
    hiss: float
    noise_seed: int


def draw_scene(seed: int, *, source_seed: int | None = None) -> Scene:
    """The scene of a seed. It knows no class: the same seed gives every class the same scene.

    source_seed: videos that share it share their background; None: the seed itself.
    """
    background = generator(seed if source_seed is None else source_seed, "background")
    rng = generator(seed, "scene")
    corners = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    return Scene(
        background=background.uniform(20, 110, 3),
        colour=rng.uniform(150, 255, 3),
        texture=rng.normal(0, 8, (8, 8, 3)),
        places=(corners + 0.5) / 2 + rng.uniform(-0.03, 0.03, (4, 2)) + rng.uniform(-0.12, 0.12, 2),
        radius=float(rng.uniform(0.12, 0.16)),
        orientation=float(rng.uniform(-0.3, 0.3)),
        rate_hz=float(rng.uniform(0.8, 1.3)),
        phase=float(rng.uniform(0, 2 * np.pi)),
        direction=int(rng.choice((-1, 1))),
        pitch_shift=float(rng.uniform(-0.12, 0.12)),
        level=float(rng.uniform(0.1, 0.3)),
        hiss=float(10 ** rng.uniform(-2.5, -1.5)),
        noise_seed=int(rng.integers(2**32)),
    )


@dataclass(frozen=True)
class Motion:
    """Of all shapes of a video, [T] each.

    dy, dx: shifts; turn: radians; scale: of the radius, 0 is unseen; stretch: of the width, by
    which the height is divided.
    """

    dy: Array
    dx: Array
    turn: Array
    scale: Array
    stretch: Array


def render_frames(
    class_index: int, scene: Scene, *, size: int = 64, num_frames: int = 32, rate: int = 16
) -> NDArray[np.uint8]:
    """Frames of one video, [T, H, W, 3] uint8, `rate` a second."""
    name = class_name(class_index)
    phase = _phase(scene, np.arange(num_frames) / rate)
    seen = _coverage(name, scene, phase, size)[..., None]
    cells = np.arange(size) * 8 // size
    background = scene.background + scene.texture[cells[:, None], cells[None, :]]
    noise = generator(scene.noise_seed, "pixels").normal(0, 4, (num_frames, size, size, 3))
    frames = background * (1 - seen) + scene.colour * seen + noise
    return frames.round().clip(0, 255).astype(np.uint8)


def render_sound(class_index: int, scene: Scene, *, num_samples: int) -> NDArray[np.float32]:
    """Mono sound of one video, [N] float32 in [-1, 1] at SOUND_RATE_HZ.

    A tone with three harmonics and white noise. Pitch and loudness follow the motion by 8 %; a
    still class has a steady tone.
    """
    name = class_name(class_index)
    times = np.arange(num_samples) / SOUND_RATE_HZ
    swing = 0.08 * np.sin(_phase(scene, times)) * (name != "still")
    pitch = LOWEST_PITCH_HZ * 2 ** (OCTAVES_PER_CLASS * class_index + scene.pitch_shift)
    angle = 2 * np.pi * np.cumsum(pitch * (1 + swing)) / SOUND_RATE_HZ
    tone = sum((np.sin(k * angle) / k for k in (1, 2, 3)), np.zeros_like(angle))
    noise = generator(scene.noise_seed, "hiss").normal(0, scene.hiss, times.size)
    return (scene.level * (1 + swing) * tone + noise).clip(-1, 1).astype(np.float32)


def class_name(class_index: int) -> str:
    """Raises ConfigError for an index outside 0 to 7."""
    if not 0 <= class_index < len(CLASSES):
        raise ConfigError(f"class {class_index} of the embedded data set: expected 0 to 7")
    return CLASSES[class_index]


def _phase(scene: Scene, times: Array) -> Array:
    return scene.phase + scene.direction * 2 * np.pi * scene.rate_hz * times


def _motion(name: str, phase: Array) -> Motion:
    """What one period of `phase` (2 pi) does to the shapes of a class."""
    zero, one, swing = np.zeros_like(phase), np.ones_like(phase), np.sin(phase)
    still = Motion(dy=zero, dx=zero, turn=zero, scale=one, stretch=one)
    match name:
        case "horizontal":
            return replace(still, dx=MOTION_AMPLITUDE * swing)
        case "vertical":
            return replace(still, dy=MOTION_AMPLITUDE * swing)
        case "orbit":
            return replace(still, dy=MOTION_AMPLITUDE * swing, dx=MOTION_AMPLITUDE * np.cos(phase))
        case "spin":
            # One lobe onwards a period: a whole turn would look still when sampled at 4 times it.
            return replace(still, turn=phase / SHAPES[name].lobes)
        case "pulse":
            return replace(still, scale=(1 + PULSE_SWING * swing) / np.sqrt(1 + PULSE_SWING**2 / 2))
        case "squash":
            return replace(still, stretch=np.exp(SQUASH_SWING * swing))
        case "blink":
            seen = swing >= np.cos(np.pi * BLINK_SHARE)
            return replace(still, scale=seen / np.sqrt(BLINK_SHARE))
    return still


def _coverage(name: str, scene: Scene, phase: Array, size: int) -> Array:
    """Which share of each pixel the shapes cover, [T, H, W] in [0, 1]."""
    shape, motion = SHAPES[name], _motion(name, phase)
    radius = (scene.radius * np.sqrt(np.pi / shape.area) * motion.scale)[:, None, None]
    pixels = (np.arange(size) + 0.5) / size
    covered = np.zeros((phase.size, size, size))
    for place_y, place_x in scene.places:
        y = _wrapped(pixels - place_y - motion.dy[:, None]) * motion.stretch[:, None]
        x = _wrapped(pixels - place_x - motion.dx[:, None]) / motion.stretch[:, None]
        y, x = y[:, :, None], x[:, None, :]
        angle = np.arctan2(y, x) - scene.orientation - motion.turn[:, None, None]
        distance = np.hypot(y, x)
        inside = radius * (1 + shape.depth * np.cos(shape.lobes * angle)) - distance
        if shape.hole:
            inside = np.minimum(inside, distance - shape.hole * radius)
        soft = (inside * size + 0.5).clip(0, 1)
        covered = np.maximum(covered, np.where(radius > 0, soft, 0))
    return covered


def _wrapped(offset: Array) -> Array:
    """The nearest way around the frame's border."""
    return (offset + 0.5) % 1 - 0.5
