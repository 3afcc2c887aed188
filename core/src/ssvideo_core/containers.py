"""Opening and decoding one file with PyAV, with one rule for damage.

A decode error or a corrupt flag ends the video: what comes after it is never used, because a
decoder that goes on delivers wrong pictures, most of them without a flag.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from ssvideo_core.errors import DecodeError

# Demuxers of video files; others, such as lists of further files, would open what a text names.
_ONLY_FILES = {
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,flv,asf,"
    "ogg,wav,m4v,h264,hevc"
}


@contextmanager
def open_container(path: Path) -> Iterator[InputContainer]:
    """The opened file, closed on exit. Raises DecodeError when it cannot be opened."""
    try:
        # An absolute path, because FFmpeg takes "a:b.mp4" for an address with the protocol "a".
        # Some HMDB51 files have titles that are not UTF-8, hence metadata_errors.
        container = av.open(
            os.path.abspath(path), metadata_errors="ignore", container_options=_ONLY_FILES
        )
    except (av.FFmpegError, OSError) as error:
        raise DecodeError(
            f"cannot open {path}: {error.strerror}; expected a complete video file"
        ) from error
    with container:
        yield container


def video_stream(container: InputContainer, path: Path) -> VideoStream:
    """The video stream, set to one decoder thread. Raises DecodeError without one."""
    stream = container.streams.best("video")
    if not isinstance(stream, VideoStream) or stream.codec_context is None:
        raise DecodeError(f"{path}: found no video stream that can be decoded, expected one")
    # One thread: workers share the cores already, and output must follow its packet for skipping.
    stream.codec_context.thread_count = 1
    return stream


def sound_stream(container: InputContainer) -> AudioStream | None:
    """The sound stream; None when the file has none that can be decoded."""
    stream = container.streams.best("audio")
    if not isinstance(stream, AudioStream) or stream.codec_context is None:
        return None
    stream.codec_context.thread_count = 1
    return stream


def packets(
    container: InputContainer, streams: Sequence[VideoStream | AudioStream], path: Path
) -> Iterator[Packet[Any]]:
    """Packets in stored order, then an empty one a stream, which flushes its decoder.

    Raises DecodeError when the container itself is damaged.
    """
    try:
        yield from container.demux(list(streams))
    except av.FFmpegError as error:
        raise DecodeError(f"{path}: reading stops: {error.strerror}") from error


def decode(packet: Packet[Any], path: Path) -> Iterator[Any]:
    """The frames that this packet completes, in output order (VideoFrame or AudioFrame).

    Raises DecodeError for an error of the decoder and for a packet or frame flagged as corrupt.
    """
    if packet.is_corrupt:
        raise DecodeError(f"{path}: decoding stops: a packet is flagged as corrupt")
    try:
        frames = packet.decode()
    except av.FFmpegError as error:
        raise DecodeError(f"{path}: decoding stops: {error.strerror}") from error
    for frame in frames:
        if frame.is_corrupt:
            raise DecodeError(f"{path}: decoding stops: a frame is flagged as corrupt")
        yield frame
