"""What a network costs: parameters, multiply-adds, activations and receptive field, as the papers state them.

Multiply-adds and activations are for an output of 1280x720 pixels. By the usual convention (CARN,
arXiv:1803.08664, section 4.2) they are those of the convolutions, without biases, and a pixel at the border
counts as any other; at x3, which does not divide 1280, the LR image has 1280 * 720 / 9 pixels. (SRCNN's
bicubic upscaling is no convolution.) XLA counts the floating-point operations of the whole program instead,
at the nearest LR image that has whole pixels, and leaves out products with the zeros of the padding; half of
them are shown. Activations are the elements that the convolutions put out (arXiv:2003.13678, section 3).
Networks are counted as they are for inference, with their norm folded; parameters as they are trained. The
receptive field is that of all output pixels which lie in one LR pixel, in LR pixels; EDRN takes means over
the whole image.
"""

import functools
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from wdsr_jax.models import count_params, replace_fields
from wdsr_jax.models.layers import Conv
from wdsr_jax.models.resampling import Bicubic
from wdsr_jax.system.tables import markdown_table

OUTPUT = (720, 1280)  # height and width
# The published networks, and WDSR-B as its authors' code has it.
PUBLISHED = {
    "SRCNN 9-1-5": dict(name="srcnn_915"),
    "SRCNN 9-5-5": dict(name="srcnn_955"),
    "SRResNet": dict(name="srresnet"),
    "EDSR baseline": dict(name="edsr", norm="none"),
    "EDSR, deconvolution": dict(name="edsr", norm="none", upsampler="deconvolution"),
    "EDSR": dict(name="edsr", norm="none", filters=256, blocks=32, res_scale=0.1),
    "WDSR-A 16x32": dict(name="wdsr_a", filters=32, blocks=16, expansion=4),
    "WDSR-A 32x128": dict(name="wdsr_a", filters=128, blocks=32, expansion=4),
    "WDSR-B 16x32": dict(name="wdsr_b", filters=32, blocks=16, expansion=6),
    "SRDenseNet": dict(name="srdensenet"),
    "RDN 16x8": dict(name="rdn", blocks=16, layers=8, growth=64),
    "RDN 20x6": dict(name="rdn", blocks=20, layers=6, growth=32),
    "EDRN": dict(name="edrn", scale=1),
}


class Layer(NamedTuple):
    """A convolution.

    Attributes:
        name: its path, such as `block_0.expand`.
        kernel_size: side of its kernel.
        inputs: channels.
        outputs: channels.
        resolution: pixels a side where it works, for each LR pixel; that of its input where its output
            has another, and 0 where the whole image has become one pixel.
        parameters: trained scalars.
        multiply_adds: for an output of 1280x720.
        activations: likewise.
    """

    name: str
    kernel_size: int
    inputs: int
    outputs: int
    resolution: Fraction
    parameters: int
    multiply_adds: float
    activations: float


@functools.cache  # the largest networks take seconds
def _parameter_shapes(module: nn.Module) -> Any:
    lr = jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32)
    return jax.eval_shape(module.init, jax.random.key(0), lr)["params"]


def layers(module: nn.Module) -> list[Layer]:
    """The convolutions of a network in the order in which they are applied."""
    found: list[Layer] = []
    side = 8  # of an LR image small enough for any machine
    lr = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    params = _parameter_shapes(module)

    def record(call, args, kwargs, context):
        conv, out = context.module, call(*args, **kwargs)
        if isinstance(conv, Conv) and context.method_name == "__call__":
            pooled = args[0].shape[1] == 1  # a mean over the image, (B, 1, 1, C)
            sides = [Fraction(0 if pooled else x.shape[1], side) for x in (args[0], out)]
            pixels = [OUTPUT[0] * OUTPUT[1] * float(s / module.scale) ** 2 or 1.0 for s in sides]
            inputs, activations = args[0].shape[-1], conv.features * pixels[1]
            found.append(
                Layer(
                    name=".".join(conv.path),
                    kernel_size=conv.kernel_size,
                    inputs=inputs,
                    outputs=conv.features,
                    resolution=sides[0],
                    parameters=count_params(functools.reduce(dict.__getitem__, conv.path, params)),
                    # Strided or transposed, the kernel is applied once a pixel of the smaller side.
                    multiply_adds=conv.kernel_size**2 * inputs * conv.features * min(pixels),
                    activations=activations,
                )
            )
        return out

    with nn.intercept_methods(record):
        jax.eval_shape(lambda params, lr: module.apply({"params": params}, lr), params, lr)
    return found


def receptive_fields(module: nn.Module) -> dict[str, int]:
    """By convolution: LR pixels a side that what it puts out for one LR pixel depends on.

    Measured: a single LR pixel is set, in one row, and each convolution's output followed as far as it goes.
    Empty for a network without a radius.
    """
    found: dict[str, int] = {}
    centre = module.radius
    if centre is None:
        return found
    lr = jnp.zeros((1, 1, 2 * centre + 1, 3)).at[:, :, centre].set(1)
    module = replace_fields(module, norm="none", mean=(0.0, 0.0, 0.0), dtype=jnp.dtype("float32"))
    params = jax.eval_shape(module.init, jax.random.key(0), lr)["params"]
    params = jax.tree.map_with_path(
        lambda path, leaf: (jnp.ones if path[-1].key == "kernel" else jnp.zeros)(leaf.shape), params
    )

    def follow(call, args, kwargs, context):
        out = call(*args, **kwargs)
        if isinstance(context.module, Conv) and context.method_name == "__call__":
            out = jnp.sign(out)  # where it is not zero; the values themselves would overflow float32
            columns = np.flatnonzero(np.asarray(out).any((0, 1, 3))) // (out.shape[2] // lr.shape[2])
            found[".".join(context.module.path)] = 2 * int(abs(columns - centre).max()) + 1
        elif isinstance(context.module, Bicubic):
            out = abs(jnp.sign(out))  # some of its weights are negative, and a ReLU follows
        return out

    with nn.intercept_methods(follow):
        module.apply({"params": params}, lr)
    return found


def multiply_adds(module: nn.Module) -> float:
    """Of a network, for an output of 1280x720 pixels, by the usual convention."""
    return sum(layer.multiply_adds for layer in layers(module))


def parameters(module: nn.Module) -> int:
    """Trained scalars of a network; slopes of PReLU, and batch norms by themselves, are in no `Layer`."""
    return count_params(_parameter_shapes(module))


def xla_multiply_adds(module: nn.Module) -> float:
    """Half of the floating-point operations that XLA counts, for the same output."""
    module = replace_fields(module, norm="none")
    height, width = (round(side / module.scale) for side in OUTPUT)
    lr, params = jax.ShapeDtypeStruct((1, height, width, 3), jnp.float32), _parameter_shapes(module)
    program = jax.jit(lambda params, lr: module.apply({"params": params}, lr)).lower(params, lr)
    analysis: Any = program.cost_analysis()
    return analysis["flops"] / 2


def layer_table(module: nn.Module) -> str:
    """Layer by layer, in Markdown."""
    fields = receptive_fields(module)
    rows = [
        [
            layer.name,
            f"{layer.kernel_size}x{layer.kernel_size}",
            f"{layer.inputs} to {layer.outputs}",
            f"{layer.resolution}x" if layer.resolution else "1 pixel",
            f"{layer.parameters:,}",
            _giga(layer.multiply_adds),
            f"{layer.activations / 1e6:.2f}",
            _square(fields[layer.name]) if fields else "-",
        ]
        for layer in layers(module)
    ]
    head = ["convolution", "kernel", "channels", "LR", "parameters", "multiply-adds, G", "activations, M"]
    return markdown_table([*head, "receptive field"], rows)


def network_table(networks: Sequence[tuple[str, nn.Module]]) -> str:
    """A row a network, given by name and module, in Markdown."""
    rows = []
    for name, module in networks:
        found, field = layers(module), None if module.radius is None else 2 * module.radius + 1
        rows.append(
            [
                name,
                f"x{module.scale}",
                f"{parameters(module):,}",
                _giga(sum(layer.multiply_adds for layer in found)),
                _giga(xla_multiply_adds(module)),
                f"{sum(layer.activations for layer in found) / 1e6:.1f}",
                _square(field),
            ]
        )
    head = ["network", "scale", "parameters", "multiply-adds, G", "XLA's, G", "activations, M"]
    return markdown_table([*head, "receptive field"], rows)


def _square(side: int | None) -> str:
    return "the image" if side is None else f"{side}x{side}"


def _giga(count: float) -> str:
    return f"{count / 1e9:.2f}"
