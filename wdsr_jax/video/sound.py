"""Sound that no container holds as it is: decoded, and encoded anew."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    import av
    from av.audio.resampler import AudioResampler
    from av.audio.stream import AudioStream
    from av.container import OutputContainer
else:
    try:
        import av
        from av.audio.resampler import AudioResampler
    except ImportError:  # `transcode.upscale_video` says so
        av = None

# Bits per second of a channel: at these AAC and Opus are hard to tell from the original.
_BIT_RATE = 96_000
# What both encoders take; other layouts are mixed into the largest of these that they fill.
_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}


class SoundEncoder:
    """Encodes the sound of one stream for another container."""

    def __init__(self, output: "OutputContainer", source: "AudioStream", codec: str):
        """Adds a stream to `output`, whose header is not written yet.

        Args:
            output: what is written.
            source: the stream whose packets `encode` gets.
            codec: FFmpeg's name of the encoder.
        """
        rates = av.Codec(codec, "w").audio_rates or []
        rate = source.codec_context.sample_rate
        channels = max(count for count in _LAYOUTS if count <= max(1, source.codec_context.channels))
        self.stream = cast(
            "AudioStream",
            output.add_stream(codec, rate if rate in rates else 48_000, layout=_LAYOUTS[channels]),
        )
        self.stream.codec_context.bit_rate = _BIT_RATE * channels
        self._source = source
        self._resampler: AudioResampler | None = None
        self._kind: tuple[str, str, int] | None = None

    def encode(self, packet: "av.Packet | None") -> Iterator["av.Packet"]:
        """Decodes a packet of the source and encodes what it holds; None ends the stream.

        Raises:
            FFmpegError: the packet is damaged.
        """
        for frame in self._source.codec_context.decode(packet):
            kind = (frame.format.name, frame.layout.name, frame.sample_rate)
            if kind != self._kind:
                yield from self._flush()
                to = self.stream.codec_context
                self._kind = kind
                self._resampler = AudioResampler(
                    *(to.format, to.layout, to.sample_rate, to.frame_size),
                    options={"async": "1"},  # silence where the source has a gap
                )
            if self._resampler:
                for part in self._resampler.resample(frame):
                    yield from self.stream.encode(part)
        if packet is None:
            yield from self._flush()
            yield from self.stream.encode(None)

    def _flush(self) -> Iterator["av.Packet"]:
        for part in self._resampler.resample(None) if self._resampler else ():
            yield from self.stream.encode(part)
