"""LR made from patches of HR on the device, anew at every step: what phones and messengers do to photographs.

`config.data.degradation="online"`. Each image of a batch draws for itself what happens to it, in this order:
Gaussian blur, a shift, downscaling (MATLAB's bicubic, area or bilinear), noise, rounding to 8 bits, JPEG. All
are pure functions of (key, HR). `batch_keys` makes the keys of a step from the run's seed, the number of the
step and the place of each image in the whole batch, so that neither stopping and resuming nor the number of
devices changes an LR. (`data.degradation`, by contrast, makes one LR of each image, once, and keeps it.)

Blur, shift and downscaling are linear: an LR pixel is a weighted sum of the HR pixels around it. A rotated
Gaussian is no product of one along y and one along x, but nearly a mixture of four that are: for a covariance
[[a, b], [b, c]] and its correlation p = |b| / sqrt(ac), Gaussians of variances (1 - p) a and (1 - p) c, moved
along the line through (sqrt(p a), +-sqrt(p c)). With at most twice the deviation along one axis as along the
other, p is at most 0.6, and the spectrum of the mixture is within 0.013 of the Gaussian's. So an image costs
two products with four band matrices, which have shift and downscaling in them.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from wdsr_jax.data.settings import Online, Range
from wdsr_jax.image.jpeg import LUMA_TABLE

ONLINE_VERSION = 1  # raise it when `degrade_image` gives other pixels: LR made earlier is then made anew

_STREAM = 2**31 - 1  # sets these random numbers apart from others of the same step (dropout's)
_HIGHEST = jax.lax.Precision.HIGHEST
# Nodes and weights that keep a sum of four cosines closest to the Gaussian exp(-t^2 / 2) where
# exp(-t^2 / 6), the rest of the spectrum for p = 0.6, is not small; found numerically.
_NODES = np.array([-1.636, -0.516, 0.516, 1.636], np.float32)
_WEIGHTS = np.array([0.1336, 0.3664, 0.3664, 0.1336], np.float32)
_REACH = 3.0  # standard deviations of the blur that margins leave room for
_BLOCK = 16  # pixels a side of the blocks that JPEG with subsampled chroma works on
_TILE = 128  # whole images are padded to multiples of this many LR pixels, so that few shapes are compiled


def margin_of(scale: int, settings: Online) -> int:
    """LR pixels that a patch of HR needs on each side, beside those of its LR patch.

    Room for bicubic's kernel (2 LR pixels to each side of a pixel's centre), three standard deviations of the
    widest blur, and the largest shift.
    """
    reach = 2 + settings.shift.high * settings.shift.is_used / scale
    reach += _REACH * settings.blur.high * settings.blur.is_used
    return math.ceil(reach - 0.5)


class Draw(NamedTuple):
    """What happens to the images of a batch; arrays over the batch.

    Attributes:
        covariance: of the blur, LR pixels squared: that of y, of y and x, of x; (B, 3), 0 for none.
        shift: (dy, dx) in HR pixels, down and to the right; (B, 2).
        method: 0 for MATLAB's bicubic, 1 for area, 2 for bilinear; int (B,).
        noise: standard deviation of Gaussian noise, levels of 8 bits; (B,).
        inverse_photons: 1 / photons that white stands for, 0 for no Poisson noise; (B,).
        is_grey: whether noise is the same in R, G and B; (B,).
        quality: of JPEG, 0 for none; int (B,).
        is_subsampled: whether its chroma is 4:2:0; (B,).
        grid: row and column of the first block's corner, minus 16; int (B, 2), 0 to 15.
    """

    covariance: jax.Array
    shift: jax.Array
    method: jax.Array
    noise: jax.Array
    inverse_photons: jax.Array
    is_grey: jax.Array
    quality: jax.Array
    is_subsampled: jax.Array
    grid: jax.Array


# The numbers that an image draws, whatever the settings: a setting changes what it is about and nothing else.
_NUMBERS: tuple[str, ...] = (
    "clean",
    "method",
    "has_blur",
    "sigma",
    "aspect",
    "angle",
    "has_shift",
    "dy",
    "dx",
)
_NUMBERS += ("has_noise", "noise", "has_poisson", "poisson", "grey", "has_jpeg", "quality", "subsampled")
_NUMBERS += ("top", "left")


def batch_keys(seed: int, step: jax.Array, first: jax.Array, count: int) -> jax.Array:
    """Keys of images `first` ... `first + count - 1` of the batch of a step: (count,)."""
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), step), _STREAM)
    return jax.vmap(functools.partial(jax.random.fold_in, key))(first + jnp.arange(count))


def draw_batch(keys: jax.Array, settings: Online) -> Draw:
    """Decides what happens to each image.

    Args:
        keys: of the images, (B,).
        settings: what may happen.
    """
    numbers = jax.vmap(lambda key: jax.random.uniform(key, (len(_NUMBERS),)))(keys)  # (B, n)
    u = dict(zip(_NUMBERS, numbers.T, strict=True))
    is_clean = u["clean"] < settings.clean

    def happens(name: str, to: Range) -> jax.Array:
        return (u[name] < to.probability * to.is_used) & ~is_clean

    def between(name: str, ends: Range) -> jax.Array:
        return ends.low + (ends.high - ends.low) * u[name]

    def either_way(name: str) -> jax.Array:
        signed = 2 * u[name] - 1
        low, high = settings.shift[:2]
        return jnp.where(happens("has_shift", settings.shift), low + (high - low) * jnp.abs(signed), 0) * (
            jnp.sign(signed)
        )

    sigma = jnp.where(happens("has_blur", settings.blur), between("sigma", settings.blur), 0)
    along, across = jnp.square(sigma), jnp.square(sigma * (1 + u["aspect"]) / 2)
    sine, cosine = jnp.sin(math.pi * u["angle"]), jnp.cos(math.pi * u["angle"])
    yy = along * sine**2 + across * cosine**2
    yx = (along - across) * sine * cosine
    xx = along * cosine**2 + across * sine**2
    method = jnp.where(u["method"] < settings.area, 1, 0)
    method = jnp.where(u["method"] >= 1 - settings.bilinear, 2, method)
    quality = jnp.floor(settings.jpeg.low + (settings.jpeg.high + 1 - settings.jpeg.low) * u["quality"])
    photons = jnp.maximum(between("poisson", settings.poisson), 1)
    grid = jnp.floor(_BLOCK * jnp.stack([u["top"], u["left"]], -1)).astype(jnp.int32)
    return Draw(
        covariance=jnp.stack([yy, yx, xx], -1),
        shift=jnp.stack([either_way("dy"), either_way("dx")], -1),
        method=jnp.where(is_clean, 0, method),
        noise=jnp.where(happens("has_noise", settings.noise), between("noise", settings.noise), 0),
        inverse_photons=jnp.where(happens("has_poisson", settings.poisson), 1 / photons, 0),
        is_grey=u["grey"] < settings.grey,
        quality=jnp.where(happens("has_jpeg", settings.jpeg), quality.astype(jnp.int32), 0),
        is_subsampled=u["subsampled"] < settings.subsampled,
        grid=grid,
    )


def resample(
    hr: jax.Array, scale: int, margin: int, covariance: jax.Array, shift: jax.Array, method: jax.Array
) -> jax.Array:
    """Gaussian blur, shift and downscaling of each image, all at once; see the module's docstring.

    Args:
        hr: (B, (H + 2 margin) scale, (W + 2 margin) scale, 3), any range.
        scale: HR pixels per LR pixel and side.
        margin: LR pixels on each side that LR has less; as `margin_of` gives it.
        covariance: see `Draw`.
        shift: see `Draw`; LR shows HR moved by it.
        method: see `Draw`. Bicubic is that of MATLAB's `imresize`, with antialiasing; area the mean of
            scale x scale HR pixels; bilinear that of OpenCV, between the HR pixels nearest on each axis.

    Returns:
        float32 (B, H, W, 3), in the units of `hr`, neither rounded nor clipped.
    """
    batch, height, width, channels = hr.shape
    rows, columns = height // scale - 2 * margin, width // scale - 2 * margin
    yy, yx, xx = covariance.T
    shared = jnp.abs(yx) / jnp.maximum(jnp.sqrt(yy * xx), 1e-12)  # the correlation p
    spread = jnp.stack([jnp.sqrt(shared * yy), jnp.sign(yx) * jnp.sqrt(shared * xx)], -1)  # (B, 2)
    rest = jnp.sqrt((1 - shared)[:, None] * jnp.stack([yy, xx], -1))  # (B, 2)
    moved = shift[:, None] + scale * spread[:, None] * _NODES[None, :, None]  # (B, Q, 2)
    weights = _kernels(scale, margin, scale * rest, moved, method)  # (B, Q, 2, T)
    vertical = _band_matrices(weights[:, :, 0] * _WEIGHTS[None, :, None], rows, scale)  # (B, Q, h, H)
    horizontal = _band_matrices(weights[:, :, 1], columns, scale)  # (B, Q, w, W)
    # Planes side by side, (B, H, 3 W): both products then take their arrays as they lie in memory.
    image = hr.astype(jnp.float32).transpose(0, 1, 3, 2).reshape(batch, height, channels * width)
    image = jnp.einsum("bqhy,byk->bqhk", vertical, image, precision=_HIGHEST)
    image = image.reshape(batch, len(_NODES), rows * channels, width)
    image = jnp.einsum("bqkx,bqwx->bqkw", image, horizontal, precision=_HIGHEST).sum(1)
    return image.reshape(batch, rows, channels, columns).transpose(0, 1, 3, 2)


def _kernels(scale: int, margin: int, sigma: jax.Array, moved: jax.Array, method: jax.Array) -> jax.Array:
    """Weights of the HR pixels around an LR pixel: blur and downscaling along one axis, their sum 1.

    Args:
        scale: HR pixels per LR pixel.
        margin: LR pixels to each side of it that are looked at.
        sigma: standard deviation of the blur, HR pixels, (B, 2).
        moved: HR pixels by which the image is moved, (B, Q, 2).
        method: (B,).

    Returns:
        (B, Q, 2, T) with T = (2 margin + 1) scale.
    """
    taps = (2 * margin + 1) * scale
    # Of the HR pixels, from the centre of the LR pixel, (T,).
    place = np.arange(taps, dtype=np.float32) - np.float32((taps - 1) / 2)
    distance = jnp.abs(place[None, None, None] + moved[..., None])  # (B, Q, 2, T)
    x = distance / scale
    near, far = (1.5 * x - 2.5) * x**2 + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2  # Keys' cubic, a = -1/2
    bicubic = jnp.where(x <= 1, near, jnp.where(x <= 2, far, 0))
    area = jnp.clip((scale + 1) / 2 - distance, 0, 1)
    bilinear = jnp.maximum(1 - distance, 0)
    method = method[:, None, None, None]
    weights = jnp.where(method == 0, bicubic, jnp.where(method == 1, area, bilinear))
    between = (place[:, None] - place[None])[None, None]  # (1, 1, T, T)
    # No blur is one far narrower than a pixel: the identity.
    gaussian = jnp.exp(-0.5 * jnp.square(between / jnp.maximum(sigma, 1e-2)[..., None, None]))
    weights = jnp.einsum("bqat,bats->bqas", weights, gaussian, precision=_HIGHEST)
    return weights / weights.sum(-1, keepdims=True)


def _band_matrices(kernels: jax.Array, count: int, step: int) -> jax.Array:
    """Matrices whose row i has a kernel from column i * step on.

    The rows of such a matrix, one after the other, are the kernel repeated: its period is a row and a step.

    Args:
        kernels: (..., T).
        count: of rows.
        step: columns.

    Returns:
        (..., count, T + (count - 1) step).
    """
    length = kernels.shape[-1] + (count - 1) * step
    period = jnp.pad(kernels, [(0, 0)] * (kernels.ndim - 1) + [(0, count * step)])  # (..., length + step)
    rows = jnp.broadcast_to(period[..., None, :], (*period.shape[:-1], count, length + step))
    flat = rows.reshape(*period.shape[:-1], count * (length + step))[..., : count * length]
    return flat.reshape(*period.shape[:-1], count, length)


def add_noise(
    keys: jax.Array, image: jax.Array, noise: jax.Array, inverse_photons: jax.Array, is_grey: jax.Array
) -> jax.Array:
    """Gaussian noise, and Poisson noise of p photons: a level v gets a variance of 255 v / p.

    Poisson's is drawn from the normal distribution of the same variance: that of photons is slow on CPUs, and
    from some twenty photons on the two look alike (a level of 17 has them at p = 300).

    Args:
        keys: of the images, (B,).
        image: (B, H, W, 3), levels of 8 bits.
        noise: standard deviation of the Gaussian noise, (B,).
        inverse_photons: 1 / p, 0 for none, (B,).
        is_grey: whether R, G and B get the same, of the variance that their mean asks for, (B,).

    Returns:
        (B, H, W, 3), neither rounded nor clipped.
    """
    normal = jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, 1), image.shape[1:]))(keys)
    is_grey = is_grey[:, None, None, None]
    normal = jnp.where(is_grey, normal[..., :1], normal)
    light = jnp.clip(jnp.where(is_grey, image.mean(-1, keepdims=True), image), 0, 255)
    noise, inverse_photons = (x[:, None, None, None] for x in (noise, inverse_photons))
    return image + normal * jnp.sqrt(jnp.square(noise) + 255 * light * inverse_photons)


def _round(x: jax.Array) -> jax.Array:
    """The nearest whole number; halves upwards, as libjpeg has it."""
    return jnp.floor(x + 0.5)


def to_levels(image: jax.Array) -> jax.Array:
    """Rounded and clipped to whole numbers in [0, 255], still float."""
    return jnp.clip(_round(image), 0, 255)


# ITU-T T.81, table K.2, as in libjpeg's jcparam.c.
_CHROMA = [
    [17, 18, 24, 47, 99, 99, 99, 99],
    [18, 21, 26, 66, 99, 99, 99, 99],
    [24, 26, 56, 99, 99, 99, 99, 99],
    [47, 66, 99, 99, 99, 99, 99, 99],
    *[[99] * 8] * 4,
]
_TABLES = np.array([LUMA_TABLE, _CHROMA], np.int32).reshape(2, 64)


def _dct_matrix() -> np.ndarray:
    """The orthonormal DCT-II of 8x8 blocks: coefficients = matrix (64, 64) @ pixels, both row by row."""
    k = np.arange(8)
    dct = np.cos(np.pi / 16 * np.outer(k, 2 * k + 1)) / 2
    dct[0] /= math.sqrt(2)
    return np.kron(dct, dct).astype(np.float32)


_DCT = _dct_matrix()
# JFIF 1.02: Y, Cb - 128 and Cr - 128 of R, G, B.
_YCC = np.array(
    [[0.299, 0.587, 0.114], [-0.168735892, -0.331264108, 0.5], [0.5, -0.418687589, -0.081312411]], np.float32
)


def quantisation_tables(quality: jax.Array) -> jax.Array:
    """libjpeg's tables of luma and chroma at a quality from 1 to 100: int (B,) to int (B, 2, 64), row by row.

    Source: `jpeg_quality_scaling` and `jpeg_add_quant_table` in libjpeg's jcparam.c, baseline.
    """
    quality = jnp.clip(quality, 1, 100)
    percent = jnp.where(quality < 50, 5000 // quality, 200 - 2 * quality).astype(jnp.int32)
    return jnp.clip((_TABLES[None] * percent[:, None, None] + 50) // 100, 1, 255)


def jpeg(image: jax.Array, quality: jax.Array, is_subsampled: jax.Array) -> jax.Array:
    """What is left of images after JPEG, as libjpeg-turbo writes and reads it.

    YCbCr, chroma averaged over 2x2 pixels (or not), the DCT of 8x8 blocks, quantised by `quantisation_tables`
    and back, chroma upsampled by libjpeg's triangle filter, RGB; rounded where libjpeg rounds.

    Args:
        image: float (B, H, W, 3) of whole numbers in [0, 255]; H and W multiples of 16.
        quality: 1 to 100, int (B,).
        is_subsampled: 4:2:0 rather than 4:4:4, (B,).

    Returns:
        As `image`.

    Source: ITU-T T.81; JFIF 1.02; libjpeg-turbo's jccolor.c, jcsample.c, jcdctmgr.c and jdsample.c.
    """
    height, width = image.shape[1:3]
    ycc = _round(jnp.einsum("bhwc,dc->bdhw", image, _YCC, precision=_HIGHEST))  # chroma around 0
    luma, chroma = ycc[:, 0] - 128, ycc[:, 1:].reshape(-1, 2 * height, width)
    # Blocks of luma, of chroma at full and of chroma at half resolution, all at once.
    planes = [luma, chroma, _halve(chroma)]
    blocks = [_to_blocks(plane) for plane in planes]
    coefficients = jnp.einsum("bnx,yx->bny", jnp.concatenate(blocks, 1), _DCT, precision=_HIGHEST)
    tables = quantisation_tables(quality).astype(jnp.float32)
    ends = np.cumsum([block.shape[1] for block in blocks])
    table = jnp.repeat(tables, np.array([ends[0], ends[2] - ends[0]]), 1, total_repeat_length=int(ends[2]))
    coefficients = jnp.round(coefficients / table) * table
    pixels = jnp.einsum("bny,yx->bnx", coefficients, _DCT, precision=_HIGHEST)
    pixels = jnp.clip(_round(pixels), -128, 127)
    luma, full, half = (
        _from_blocks(part, *plane.shape[1:])
        for part, plane in zip(jnp.split(pixels, ends[:2], 1), planes, strict=True)
    )
    half = half.reshape(-1, 2, height // 2, width // 2)
    full = full.reshape(-1, 2, height, width)
    cb, cr = jnp.moveaxis(jnp.where(is_subsampled[:, None, None, None], _double(half), full), 1, 0)
    luma = luma + 128
    red, blue = luma + _round(1.402 * cr), luma + _round(1.772 * cb)
    green = luma + _round(-0.344136286 * cb - 0.714136286 * cr)
    return jnp.clip(jnp.stack([red, green, blue], -1), 0, 255)


def _halve(plane: jax.Array) -> jax.Array:
    """Means of 2x2 pixels, (B, H, W) to (B, H/2, W/2); halves and quarters rounded by turns down and up."""
    batch, height, width = plane.shape
    total = plane.reshape(batch, height // 2, 2, width // 2, 2).sum((2, 4))
    bias = jnp.where(jnp.arange(width // 2) % 2 == 0, 1.0, 2.0)
    return jnp.floor((total + bias[None, None]) / 4)


def _double(plane: jax.Array) -> jax.Array:
    """libjpeg's `h2v2_fancy_upsample`: (..., H, W) to (..., 2H, 2W), weights 9, 3, 3, 1 of 16."""
    for axis in (-2, -1):
        size = plane.shape[axis]
        first, last = (jax.lax.slice_in_dim(plane, i, i + 1, axis=axis) for i in (0, size - 1))
        before = jnp.concatenate([first, jax.lax.slice_in_dim(plane, 0, size - 1, axis=axis)], axis)
        after = jnp.concatenate([jax.lax.slice_in_dim(plane, 1, size, axis=axis), last], axis)
        pair = jnp.stack([3 * plane + before, 3 * plane + after], axis + plane.ndim + 1)
        plane = pair.reshape(*(2 * n if i == axis + plane.ndim else n for i, n in enumerate(plane.shape)))
    bias = jnp.where(jnp.arange(plane.shape[-1]) % 2 == 0, 8.0, 7.0)
    return jnp.floor((plane + bias[(None,) * (plane.ndim - 1)]) / 16)


def _to_blocks(plane: jax.Array) -> jax.Array:
    """(B, H, W) to (B, H/8 * W/8, 64)."""
    batch, height, width = plane.shape
    blocks = plane.reshape(batch, height // 8, 8, width // 8, 8).transpose(0, 1, 3, 2, 4)
    return blocks.reshape(batch, -1, 64)


def _from_blocks(blocks: jax.Array, height: int, width: int) -> jax.Array:
    """(B, H/8 * W/8, 64) to (B, H, W)."""
    plane = blocks.reshape(-1, height // 8, width // 8, 8, 8).transpose(0, 1, 3, 2, 4)
    return plane.reshape(-1, height, width)


def jpeg_on_grid(
    image: jax.Array, quality: jax.Array, is_subsampled: jax.Array, grid: jax.Array
) -> jax.Array:
    """`jpeg` of images whose first whole block is anywhere, as in a part of a larger image.

    Blocks that reach beyond the image see its mirror image there.

    Args:
        image: as for `jpeg`, but of any sides.
        quality: as for `jpeg`; 0 leaves the image as it is.
        is_subsampled: as for `jpeg`.
        grid: rows and columns that the first block reaches beyond the image, 0 to 15, int (B, 2).
    """
    onto, back = [], []
    for axis, side in enumerate(image.shape[1:3]):
        first, pixels = grid[:, axis, None], jnp.arange(side)[None]
        place = (jnp.arange(-(-(side + _BLOCK - 1) // _BLOCK) * _BLOCK)[None] - first) % (2 * side)
        onto.append(
            jax.nn.one_hot(jnp.minimum(place, 2 * side - 1 - place), side)
        )  # (B, side on the grid, side)
        back.append(jax.nn.one_hot(first + pixels, place.shape[1]))

    # Products with one-hot matrices: for the sake of indices XLA would compute the noise of a pixel anew each
    # time it is looked at.
    def take(image, rows, columns):
        image = jnp.einsum("bny,byxc->bnxc", rows, image, precision=_HIGHEST)
        return jnp.einsum("bmx,bnxc->bnmc", columns, image, precision=_HIGHEST)

    image = take(image, *onto)
    coded = jpeg(image, quality, is_subsampled)
    return take(jnp.where(quality[:, None, None, None] > 0, coded, image), *back)


def degrade_batch(keys: jax.Array, hr: jax.Array, scale: int, settings: Online) -> jax.Array:
    """LR of each image of a batch; see the module's docstring.

    Args:
        keys: of the images, (B,).
        hr: uint8 (B, (H + 2 m) scale, (W + 2 m) scale, 3), m being `margin_of(scale, settings)`.
        scale: HR pixels per LR pixel and side.
        settings: what may happen.

    Returns:
        uint8 (B, H, W, 3).
    """
    drawn = draw_batch(keys, settings)
    lr = resample(hr, scale, margin_of(scale, settings), drawn.covariance, drawn.shift, drawn.method)
    if settings.noise.is_used or settings.poisson.is_used:
        lr = add_noise(keys, lr, drawn.noise, drawn.inverse_photons, drawn.is_grey)
    lr = to_levels(lr)
    if settings.jpeg.is_used:
        lr = jpeg_on_grid(lr, drawn.quality, drawn.is_subsampled, drawn.grid)
    return lr.astype(jnp.uint8)


def degrade_share(
    hr: jax.Array, step: jax.Array, share: jax.Array, *, seed: int, scale: int, settings: Online
) -> dict[str, jax.Array]:
    """A device's share of the batch of a step, made from HR patches with a margin.

    Args:
        hr: uint8 (b, (P + 2 m) scale, (P + 2 m) scale, 3), see `degrade_batch`.
        step: int ().
        share: which part of the batch it is, 0 for the first b images; int ().
        seed: of the run.
        scale: HR pixels per LR pixel and side.
        settings: what may happen.

    Returns:
        {"lr": uint8 (b, P, P, 3), "hr": uint8 (b, P scale, P scale, 3)}.
    """
    count = hr.shape[0]
    keys = batch_keys(seed, step, share * count, count)
    border = margin_of(scale, settings) * scale
    inside = slice(border, hr.shape[1] - border), slice(border, hr.shape[2] - border)
    return {"lr": degrade_batch(keys, hr, scale, settings), "hr": hr[:, *inside]}


def degrade_image(hr: np.ndarray, scale: int, settings: Online, index: int) -> np.ndarray:
    """LR of a whole image, the border pixels repeated outwards; always the same for the same arguments.

    Args:
        hr: uint8 (H, W, 3), sides multiples of `scale`.
        scale: HR pixels per LR pixel and side.
        settings: what may happen, and the seed.
        index: of the image among those of its set; each draws for itself.

    Returns:
        uint8 (H / scale, W / scale, 3).
    """
    height, width = (side // scale for side in hr.shape[:2])
    border = margin_of(scale, settings) * scale
    widths = [(border, border + -side % _TILE * scale) for side in (height, width)]
    padded = np.pad(hr, [*widths, (0, 0)], mode="edge")
    return np.asarray(_degrade_padded(padded, index, scale=scale, settings=settings))[:height, :width]


@functools.partial(jax.jit, static_argnames=("scale", "settings"))
def _degrade_padded(hr: jax.Array, index: jax.Array, *, scale: int, settings: Online) -> jax.Array:
    key = jax.random.fold_in(jax.random.key(settings.seed), index)
    return degrade_batch(key[None], hr[None], scale, settings)[0]
