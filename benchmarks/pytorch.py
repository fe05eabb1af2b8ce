"""The same networks in PyTorch, written as its users write them. Nothing here imports JAX."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch.nn.utils.parametrizations import weight_norm

LEARNING_RATE = 1e-3


def _conv(inputs: int, outputs: int, size: int, normed: bool) -> torch.nn.Module:
    layer = torch.nn.Conv2d(inputs, outputs, size, padding=size // 2)
    return weight_norm(layer, dim=0) if normed else layer


class Block(torch.nn.Module):
    """WDSR-A or WDSR-B."""

    def __init__(self, block: str, filters: int, expansion: int, low_rank_ratio: float, normed: bool):
        super().__init__()
        wide, low = expansion * filters, int(low_rank_ratio * filters)
        if block == "a":
            self.expand, self.project = _conv(filters, wide, 3, normed), _conv(wide, filters, 3, normed)
        else:
            self.expand, self.reduce = _conv(filters, wide, 1, normed), _conv(wide, low, 1, normed)
            self.project = _conv(low, filters, 3, normed)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.expand(x))
        return x + self.project(self.reduce(y) if hasattr(self, "reduce") else y)


class WDSR(torch.nn.Module):
    """(B, 3, H, W) -> (B, 3, H r, W r), both float in [0, 1]."""

    def __init__(
        self,
        name: str,
        scale: int,
        filters: int = 32,
        blocks: int = 16,
        expansion: int = 4,
        low_rank_ratio: float = 0.8,
        mean: tuple[float, ...] = (0.4488, 0.4371, 0.4040),
        norm: str = "weight",
    ):
        super().__init__()
        normed, cell = norm == "weight", 3 * scale**2
        self.head = _conv(3, filters, 3, normed)
        block = [Block(name[-1], filters, expansion, low_rank_ratio, normed) for _ in range(blocks)]
        self.blocks = torch.nn.Sequential(*block)
        self.tail, self.skip = _conv(filters, cell, 3, normed), _conv(3, cell, 5, normed)
        self.shuffle = torch.nn.PixelShuffle(scale)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        x = lr - self.mean
        return self.shuffle(self.tail(self.blocks(self.head(x))) + self.skip(x)) + self.mean


def torch_params(params: Mapping[str, np.ndarray], scale: int) -> dict[str, torch.Tensor]:
    """A state dict of `WDSR` from this package's parameters, by their path; the norm is kept or absent."""
    state = {}
    for path, value in params.items():
        layer, leaf = path.rsplit(".", 1)
        if layer in ("tail", "skip"):  # channels (i r + j) 3 + c become c r^2 + i r + j
            value = value.reshape(*value.shape[:-1], scale**2, 3).swapaxes(-1, -2).reshape(value.shape)
        if layer.startswith("block_"):
            number, inner = layer.removeprefix("block_").split(".")
            layer = f"blocks.{number}.{inner}"
        normed = f"{path.rsplit('.', 1)[0]}.scale" in params
        if leaf == "kernel":  # (kh, kw, I, O) to (O, I, kh, kw)
            value = value.transpose(3, 2, 0, 1)
            name = "parametrizations.weight.original1" if normed else "weight"
        elif leaf == "scale":
            value, name = value[:, None, None, None], "parametrizations.weight.original0"
        else:
            name = "bias"
        state[f"{layer}.{name}"] = torch.from_numpy(np.ascontiguousarray(value))
    return state


def _network(
    model: Mapping[str, Any], params: Mapping[str, np.ndarray], threads: int, device: str
) -> torch.nn.Module:
    torch.set_num_threads(threads)
    fields = {key: value for key, value in model.items() if key not in ("g_init", "dtype")}
    network = WDSR(**fields)
    network.load_state_dict(torch_params(params, model["scale"]))
    return network.to(device, memory_format=torch.channels_last)


def _synchronised(call: Callable[[], torch.Tensor], device: str) -> Callable[[], torch.Tensor]:
    def synchronised() -> torch.Tensor:
        result = call()
        if device == "cuda":
            torch.cuda.synchronize()
        return result

    return synchronised


def training(
    model: Mapping[str, Any],
    params: Mapping[str, np.ndarray],
    batch: Mapping[str, np.ndarray],
    threads: int,
    device: str,
    compiled: bool,
) -> tuple[Callable[[], Any], np.ndarray]:
    """Forward, L1, backward and Adam; bfloat16 by autocast. Computes the losses of the first steps."""
    network = _network(model, params, threads, device)
    bfloat16 = model.get("dtype") == "bfloat16"
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE, fused=device == "cuda")
    lr, hr = (torch.from_numpy(batch[k]).permute(0, 3, 1, 2).to(device) for k in ("lr", "hr"))
    lr, hr = (x.contiguous(memory_format=torch.channels_last) for x in (lr, hr))

    def loss(lr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device, torch.bfloat16, enabled=bfloat16):
            sr = network(lr.float() / 255)
        return torch.nn.functional.l1_loss(sr.float(), hr.float() / 255)

    loss = torch.compile(loss) if compiled else loss

    def call() -> torch.Tensor:
        optimizer.zero_grad(set_to_none=True)
        value = loss(lr, hr)
        value.backward()
        optimizer.step()
        return value

    call = _synchronised(call, device)
    return call, np.asarray([float(call()) for _ in range(3)])


def inference(
    model: Mapping[str, Any],
    params: Mapping[str, np.ndarray],
    lr: np.ndarray,
    threads: int,
    device: str,
    compiled: bool,
) -> tuple[Callable[[], Any], np.ndarray]:
    """The network with its norm multiplied out; bfloat16 by autocast."""
    network = _network({**model, "norm": "none"}, params, threads, device).eval()
    bfloat16 = model.get("dtype") == "bfloat16"
    network = torch.compile(network) if compiled else network
    x = torch.from_numpy(lr).permute(0, 3, 1, 2).to(device).contiguous(memory_format=torch.channels_last)

    def call() -> torch.Tensor:
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=bfloat16):
            return network(x)

    call = _synchronised(call, device)
    return call, call().float().permute(0, 2, 3, 1).cpu().numpy()


def matmul(size: int, dtype: str, threads: int, device: str) -> tuple[Callable[[], Any], np.ndarray]:
    """A plain product of two square matrices."""
    torch.set_num_threads(threads)
    a, b = (torch.randn(size, size).to(device, getattr(torch, dtype)) for _ in range(2))
    return _synchronised(lambda: a @ b, device), np.zeros(())
