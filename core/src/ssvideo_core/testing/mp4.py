"""Small mp4 files for tests and for the embedded data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssvideo_core.errors import ConfigError
from ssvideo_core.testing.synthetic_scenes import SOUND_RATE_HZ


def write_mp4(
    path: Path, frames: NDArray[np.uint8], sound: NDArray[np.float32], *, rate: int
) -> None:
    """Frames [T, H, W, 3] uint8 and mono sound [N] at 24000 a second as H.264 and AAC.

    One thread and no time stamp: the same input gives the same bytes from the same libraries.
    Raises ConfigError for a PyAV without the encoder.
    """
    import av
    from av.codec.codec import UnknownCodecError

    options = {"fflags": "+bitexact"}
    with av.open(str(path), "w", format="mp4", container_options=options) as container:
        try:
            picture = container.add_stream("libx264", rate=rate)
        except UnknownCodecError as error:
            raise ConfigError(
                "this PyAV cannot write H.264 (no libx264); PyPI's wheel can: "
                "pip install --force-reinstall --only-binary av av"
            ) from error
        picture.height, picture.width = frames.shape[1:3]
        picture.pix_fmt = "yuv420p"
        # Without cpu-independent, x264 gives other bytes from run to run.
        x264 = "cpu-independent=1:threads=1"
        picture.options = {"crf": "18", "g": str(rate), "x264-params": x264}
        picture.codec_context.thread_count = 1
        voice = container.add_stream("aac", rate=SOUND_RATE_HZ, layout="mono")
        voice.bit_rate = 64000
        for pixels in frames:
            container.mux(picture.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(picture.encode(None))
        samples = av.AudioFrame.from_ndarray(sound[None], format="fltp", layout="mono")
        # Without a time the file would not say that AAC begins with 1024 samples of delay.
        samples.sample_rate, samples.pts = SOUND_RATE_HZ, 0
        container.mux(voice.encode(samples))
        container.mux(voice.encode(None))
