"""LPIPS against PyTorch with random weights of both networks; what is refused."""

import numpy as np
import pytest

from tests.evaluation.sets import picture
from wdsr_jax.errors import UserError
from wdsr_jax.evaluation.lpips import load_lpips, lpips_map

ALEX = [[(0, 64, 11)], [(3, 192, 5)], [(6, 384, 3)], [(8, 256, 3)], [(10, 256, 3)]]
VGG = [
    [(0, 64, 3), (2, 64, 3)],
    [(5, 128, 3), (7, 128, 3)],
    [(10, 256, 3), (12, 256, 3), (14, 256, 3)],
    [(17, 512, 3), (19, 512, 3), (21, 512, 3)],
    [(24, 512, 3), (26, 512, 3), (28, 512, 3)],
]


def random_state(network, width=1.0):
    """A state dict in the naming of the package lpips."""
    rng, inputs, state = np.random.default_rng(0), 3, {}
    for number, convolutions in enumerate(network):
        for index, channels, side in convolutions:
            outputs, scale = int(width * channels), np.sqrt(2 / (side * side * inputs))
            name = f"net.slice{number + 1}.{index}"
            state[f"{name}.weight"] = rng.normal(0, scale, (outputs, inputs, side, side)).astype(np.float32)
            state[f"{name}.bias"] = rng.normal(0, 0.1, outputs).astype(np.float32)
            inputs = outputs
        state[f"lin{number}.model.1.weight"] = rng.random((1, inputs, 1, 1), dtype=np.float32)
    return state


def by_torch(torch, network, state, sr, hr):
    """The forward pass of lpips.LPIPS(spatial=True), version 0.1, in torch's own functions."""
    F = torch.nn.functional
    shift, scale = (
        torch.tensor(v).view(1, 3, 1, 1) for v in ((-0.030, -0.088, -0.188), (0.458, 0.448, 0.450))
    )
    features = []
    for image in (sr, hr):
        x = torch.tensor(image).permute(2, 0, 1)[None].float() / 127.5 - 1
        x, outputs = (x - shift) / scale, []
        for number, convolutions in enumerate(network):
            if network is ALEX and number in (1, 2):
                x = F.max_pool2d(x, 3, 2)
            elif network is VGG and number:
                x = F.max_pool2d(x, 2, 2)
            for index, _, side in convolutions:
                weight, bias = (
                    torch.tensor(state[f"net.slice{number + 1}.{index}.{p}"]) for p in ("weight", "bias")
                )
                stride, padding = (4, 2) if side == 11 else (1, side // 2)
                x = F.relu(F.conv2d(x, weight, bias, stride, padding))
            outputs.append(x / (x.pow(2).sum(1, keepdim=True).sqrt() + 1e-10))
        features.append(outputs)
    total = 0
    for number, (one, other) in enumerate(zip(*features, strict=True)):
        distance = F.conv2d((one - other) ** 2, torch.tensor(state[f"lin{number}.model.1.weight"]))
        total = total + F.interpolate(distance, sr.shape[:2], mode="bilinear", align_corners=False)
    return total[0, 0].numpy()


@pytest.mark.parametrize("network", [ALEX, VGG], ids=["alex", "vgg"])
def test_equals_torch(network, tmp_path):
    torch = pytest.importorskip("torch")
    state = random_state(network, width=0.125)
    torch.save({name: torch.tensor(value) for name, value in state.items()}, tmp_path / "lpips.pth")
    sr, hr = picture(70, 90, seed=1), picture(70, 90, seed=2)
    found = load_lpips(tmp_path / "lpips.pth")(sr, hr)
    expected = by_torch(torch, network, state, sr, hr)
    assert expected.std() > 1e-3
    np.testing.assert_allclose(found, expected, atol=1e-4 * expected.max())


def test_is_a_distance():
    network = random_state(ALEX, width=0.125)
    slices = [
        (
            [
                (network[f"net.slice{n}.{i}.weight"].transpose(2, 3, 1, 0), network[f"net.slice{n}.{i}.bias"])
                for i, _, _ in ALEX[n - 1]
            ],
            network[f"lin{n - 1}.model.1.weight"].ravel(),
        )
        for n in range(1, 6)
    ]
    one, other = picture(64, 64, seed=1), picture(64, 64, seed=2)
    assert np.abs(lpips_map(slices, one, one)).max() == 0
    there, back = lpips_map(slices, one, other), lpips_map(slices, other, one)
    np.testing.assert_allclose(there, back, rtol=1e-5, atol=1e-6)
    assert np.min(there) > 0


def test_what_is_no_such_file_is_refused(tmp_path):
    (tmp_path / "a.pth").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"a\.pth: damaged, or not written by torch\.save"):
        load_lpips(tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"none\.pth: cannot be read"):
        load_lpips(tmp_path / "none.pth")
