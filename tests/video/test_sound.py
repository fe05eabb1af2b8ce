"""Sound that is encoded anew: at its time, of any rate and number of channels."""

import numpy as np
import pytest

from tests.video.clips import av, read_frames, sound_of, twice, write_with_sound
from wdsr_jax.video.transcode import upscale_video


@pytest.mark.parametrize("suffix, encoder, codec", [(".mp4", "AAC", "aac"), (".webm", "Opus", "opus")])
def test_sound_that_no_container_holds_is_encoded_anew(tmp_path, suffix, encoder, codec):
    source = write_with_sound(tmp_path / "in.avi", "adpcm_ms", count=25)
    lost = upscale_video(source, tmp_path / f"out{suffix}", twice)
    assert lost == (f"sound (adpcm_ms, encoded anew as {encoder})",)
    with av.open(str(tmp_path / f"out{suffix}")) as clip:
        assert clip.streams.audio[0].codec_context.codec.canonical_name == codec
    before, start = sound_of(source)
    after, new_start = sound_of(tmp_path / f"out{suffix}")
    shift = round((new_start - start) * 48000)
    before, after = before[: len(after)], after[: len(before)]
    # Noise correlates at its own place only: a shift of 1 ms is 48 samples.
    spectrum = np.fft.rfft(after) * np.conj(np.fft.rfft(before))
    lag = int(np.argmax(np.fft.irfft(spectrum)))
    lag -= len(after) if lag > len(after) // 2 else 0
    assert abs(lag + shift) < 96
    assert len(read_frames(tmp_path / f"out{suffix}")) == 25


@pytest.mark.parametrize("rate, layout", [(22254, "stereo"), (8000, "mono"), (48000, "stereo")])
def test_rates_that_the_encoder_lacks_become_one_that_it_has(tmp_path, rate, layout):
    source = write_with_sound(tmp_path / "in.avi", "adpcm_ima_wav", rate=rate, layout=layout)
    upscale_video(source, tmp_path / "out.mp4", twice)
    with av.open(str(tmp_path / "out.mp4")) as clip:
        context = clip.streams.audio[0].codec_context
        assert context.sample_rate == (48000 if rate == 22254 else rate)
        assert context.layout.name == layout
        seconds = clip.streams.audio[0].duration * clip.streams.audio[0].time_base
    assert abs(float(seconds) - 1) < 0.15  # of a second, to the end of a frame of 1024 samples
