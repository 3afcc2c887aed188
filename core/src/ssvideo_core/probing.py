"""The facts of a video: how many frames, when, how large, with which sound."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from ssvideo_core.containers import decode, open_container, packets, sound_stream, video_stream
from ssvideo_core.errors import DecodeError
from ssvideo_core.views import VideoInfo

_LOG = logging.getLogger(__name__)

# Codecs whose every packet is one frame, so that packets can be counted instead of frames. Not
# among them: MPEG-4 part 2 and MPEG-1/2 (packets without a picture), VP8 (hidden frames).
_ONE_FRAME_A_PACKET = {"h264", "hevc", "vp9", "av1"}
# Containers whose times are those of the stored order.
_STORED_ORDER = {"avi", "asf"}
_PROGRESSIVE = (0, 1)  # FFmpeg's "unknown" and "progressive"; fields may be packets of their own


def probe(path: Path, video_id: str | None = None) -> VideoInfo:
    """The facts of one file. video_id: None is the file's name.

    One pass over the packets, of which only the first frame is decoded. All frames are decoded and
    counted where packets do not tell: avi and asf with B-frames, codecs that store packets without
    a picture, interlaced video, and damaged files. A damaged video ends where decoding stops;
    `damage` says so, and so does a warning in the log.

    The video's clock is 0 at the first frame. `pts` is None for avi and asf (wmv) with B-frames,
    whose stored times are not in output order, and wherever the times of decoded frames do not
    ascend.

    Raises DecodeError when the file cannot be opened or not one frame can be decoded.
    """
    with open_container(path) as container:
        stream = video_stream(container, path)
        scan = _scan(container, stream, path)
        if scan.picture is None:
            raise DecodeError(f"{path}: no frame can be decoded, expected at least one")
        counted = container.format.name in _STORED_ORDER and stream.codec_context.has_b_frames
        pts = None if counted else _packet_times(stream, scan)
        num_frames, damage = 0 if pts is None else len(pts), None
        if pts is None:
            times, damage = _decoded_times(path, stream.frames)
            num_frames, pts = len(times), None if counted else _ascending(times)
        height, width = upright_size(scan.picture)
        time_base = stream.time_base or Fraction(1)
        zero = stream.start_time or 0 if pts is None else int(pts[0])
        return VideoInfo(
            video_id=path.name if video_id is None else video_id,
            num_frames=num_frames,
            header_frames=stream.frames or None,
            rate=_rate(stream, path),
            time_base=time_base,
            duration=stream.duration,
            pts=pts,
            height=height,
            width=width,
            sound_rate_hz=scan.sound_rate_hz,
            sound_start_s=float(scan.sound_start - zero * time_base),
            sound_duration_s=float(max(scan.sound_end - scan.sound_start, Fraction(0))),
            damage=damage,
        )


def quarter_turns(frame: VideoFrame) -> int:
    """How often the stored picture must be turned by 90 degrees, anticlockwise, to be upright."""
    return round(frame.rotation / 90) % 4


def upright_size(frame: VideoFrame) -> tuple[int, int]:
    """(height, width) after `quarter_turns`, pixels."""
    size = frame.height, frame.width
    return size[::-1] if quarter_turns(frame) % 2 else size


class _VideoPacket(NamedTuple):
    """What one packet says of its frame. shown: not cut away by an edit list."""

    pts: int | None
    is_key: bool
    shown: bool
    whole: bool


@dataclass
class _Scan:
    """What one pass over the packets finds; `sound_*` are seconds on the container's clock."""

    packets: list[_VideoPacket] = field(default_factory=list)
    picture: VideoFrame | None = None
    damaged: bool = False
    sound_rate_hz: int | None = None
    sound_decodes: bool = False
    sound_start: Fraction = Fraction(0)
    sound_end: Fraction = Fraction(0)

    def add_picture(self, packet: Packet[Any], length_size: int, path: Path) -> None:
        if packet.size:
            whole = not packet.is_corrupt and _is_whole(memoryview(packet), length_size)
            shown = not packet.is_discard
            self.packets.append(_VideoPacket(packet.pts, packet.is_keyframe, shown, whole))
        if self.picture is None:
            self.picture = next(decode(packet, path), None)

    def add_sound(self, packet: Packet[Any], rate_hz: int, path: Path) -> None:
        if packet.pts is None or packet.time_base is None:
            return
        start = packet.pts * packet.time_base
        if self.sound_rate_hz is None:
            self.sound_rate_hz, self.sound_start = rate_hz, start
        if not self.sound_decodes:
            # The first decoded frame counts: decoders drop packets that only prime them. Sound
            # that does not decode is an error for those who read it, not for the pictures.
            with suppress(DecodeError):
                for frame in decode(packet, path):
                    self.sound_decodes = True
                    self.sound_rate_hz = frame.sample_rate
                    self.sound_start = start if frame.pts is None else frame.pts * frame.time_base
                    break
        self.sound_end = max(self.sound_end, start + (packet.duration or 0) * packet.time_base)


def _scan(container: InputContainer, video: VideoStream, path: Path) -> _Scan:
    scan = _Scan()
    sound = sound_stream(container)
    length_size = _length_size(video)
    try:
        for packet in packets(container, [video] if sound is None else [video, sound], path):
            if sound is not None and packet.stream_index == sound.index:
                scan.add_sound(packet, sound.rate, path)
            else:
                scan.add_picture(packet, length_size, path)
    except DecodeError:
        scan.damaged = True  # decoding will find what is left, and say so
    return scan


def _length_size(stream: VideoStream) -> int:
    """Bytes of the length before each unit of H.264 and HEVC in mp4 and mkv; 0 elsewhere."""
    extradata = stream.codec_context.extradata or b""
    position = {"h264": 4, "hevc": 21}.get(stream.codec_context.codec.canonical_name, 0)
    if not position or len(extradata) <= position or extradata[0] != 1:
        return 0
    return (extradata[position] & 3) + 1


def _is_whole(data: memoryview, length_size: int) -> bool:
    """Whether no unit is longer than what is left: the decoder's own first test."""
    position = 0
    while length_size and len(data) - position >= length_size:
        start = position + length_size
        position = start + int.from_bytes(data[position:start], "big")
    return position <= len(data)


def _packet_times(stream: VideoStream, scan: _Scan) -> NDArray[np.int64] | None:
    """The frames' times, ascending, if the packets tell them."""
    context = stream.codec_context
    if context.codec.canonical_name not in _ONE_FRAME_A_PACKET or scan.damaged:
        return None
    pts = [packet.pts for packet in scan.packets if packet.pts is not None]
    shown = {packet.pts for packet in scan.packets if packet.shown and packet.pts is not None}
    first = scan.packets[0]
    tell = (
        context.field_order in _PROGRESSIVE
        and all(packet.whole for packet in scan.packets)
        and len(set(pts)) == len(scan.packets)
        # What is shown before the first key frame may not decode.
        and first.is_key
        and first.pts == min(pts)
    )
    return np.array(sorted(shown), np.int64) if tell and shown else None


def _decoded_times(path: Path, header_frames: int) -> tuple[list[int | None], str | None]:
    """The time of each frame that decodes, in output order, and what ends them early."""
    times: list[int | None] = []
    with open_container(path) as container:
        stream = video_stream(container, path)
        try:
            for packet in packets(container, [stream], path):
                times.extend(frame.pts for frame in decode(packet, path))
        except DecodeError as error:
            if not times:
                raise
            damage = f"{error}. It ends after {len(times)} frames; the header says {header_frames}"
            _LOG.warning(damage)
            return times, damage
    return times, None


def _ascending(times: list[int | None]) -> NDArray[np.int64] | None:
    known = [time for time in times if time is not None]
    if len(known) < len(times) or any(b <= a for a, b in pairwise(known)):
        return None
    return np.array(known, np.int64)


def _rate(stream: VideoStream, path: Path) -> Fraction:
    rate = stream.average_rate or stream.guessed_rate
    if not rate:
        raise DecodeError(f"{path}: the file states no frame rate; convert it to mp4 first")
    return Fraction(rate)
