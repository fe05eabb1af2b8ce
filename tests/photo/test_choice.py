"""Which network is chosen for what."""

import numpy as np
import pytest

from tests.photo.samples import RGB, encoded, read
from tests.photo.shipped import CLEAN, FAST, PHOTO, ship
from wdsr_jax.photo.choice import Choice, choose_model, choose_video_model, network_name
from wdsr_jax.photo.photos import Photo

NOISE = np.random.default_rng(0).normal(0, 6, (200, 200, 3))
NOISY = np.clip(120 + NOISE, 0, 255).astype(np.uint8)


@pytest.fixture
def shipped(monkeypatch, tmp_path):
    ship(monkeypatch, tmp_path / "shipped", CLEAN, PHOTO, FAST)


@pytest.mark.parametrize(
    "pixels, image_format, quality, model, reason",
    [
        (RGB, "PNG", 0, "clean", "no loss, little noise"),
        (RGB, "JPEG", 95, "clean", "JPEG of quality 95, little noise"),
        (RGB, "JPEG", 92, "clean", "JPEG of quality 92, little noise"),
        (RGB, "JPEG", 91, "photo", "JPEG of quality 91"),
        (RGB, "WEBP", 95, "photo", "WebP"),
        (NOISY, "PNG", 0, "photo", "noise of"),
        (NOISY, "JPEG", 98, "photo", "noise of"),
    ],
)
@pytest.mark.usefixtures("shipped")
def test_by_compression_and_noise(pixels, image_format, quality, model, reason):
    photo = read(encoded(pixels, image_format, quality=quality))
    choice = choose_model(None, photo, 2)
    assert choice.model == model and choice.reason.startswith(reason)


@pytest.mark.usefixtures("shipped")
def test_what_is_named_is_taken():
    assert (
        choose_model("photo", Photo(RGB), 2) == choose_video_model("photo", 2, on_cpu=True) == Choice("photo")
    )
    assert choose_model(None, Photo(NOISY), 1) == Choice(None)
    assert choose_model(None, Photo(NOISY), 0.5) == choose_video_model(None, 0.5, on_cpu=True) == Choice(None)


@pytest.mark.usefixtures("shipped")
def test_videos():
    assert choose_video_model(None, 2, on_cpu=True) == Choice("fast", "a video, without a GPU")
    assert choose_video_model(None, 2, on_cpu=False) == Choice("photo", "a video")


def test_without_such_weights_nothing_is_chosen(monkeypatch, tmp_path):
    ship(monkeypatch, tmp_path / "shipped", CLEAN)
    assert choose_model(None, Photo(NOISY), 2) == Choice(None)
    for on_cpu in (True, False):
        assert choose_video_model(None, 2, on_cpu=on_cpu) == Choice(None)
    assert network_name(None, 2) == network_name("clean", 3) == CLEAN
    assert network_name("photo", 2) is None
    assert network_name("mine.safetensors", 2) == "mine.safetensors"
