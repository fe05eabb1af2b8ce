"""Between the frames of a video and RGB: colours, bits and orientation.

Frames become RGB by the matrix and range that the stream names, and go back to YCbCr by the same matrix.
Where a stream names none, BT.2020 is taken for HDR, else BT.709 above 576 lines or 1280 columns and BT.601
below, as players do. RGB has the transfer function of the stream, PQ and HLG included. Frames of 8 bits
become RGB of 8 bits and then 8-bit 4:2:0 of limited range; deep ones, of more bits or HDR, RGB of 16 bits and
then 10-bit 4:2:0. Odd sizes, which 4:2:0 cannot have, are made even by repeating the last row or column.
Frames that a display matrix turns or mirrors become upright.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from wdsr_jax.errors import UserError

if TYPE_CHECKING:
    import av
    import av.filter
    from av.video.reformatter import Interpolation, VideoReformatter
else:
    try:
        import av
        from av.video.reformatter import Interpolation
    except ImportError:  # `transcode.upscale_video` says so
        av = None

# Numbers of ITU-T H.273: ranges, and the matrices that swscale knows, with its names for them.
LIMITED, FULL = 1, 2
UNSPECIFIED = 2
_MATRICES = {1: "bt709", 4: "fcc", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 9: "bt2020", 10: "bt2020"}
_BT709, _BT601, _BT2020 = 1, 6, 9
_BT2020_PRIMARIES = 9
_PQ, _HLG = 16, 18  # HDR's transfer functions
# What frames carry beside their pixels and an encoder here does not write.
_UNWRITTEN = {
    "A53_CC": "closed captions",
    "DYNAMIC_HDR_PLUS": "HDR10+ data",
    "DYNAMIC_HDR_VIVID": "HDR Vivid data",
    "DOVI_METADATA": "Dolby Vision data",
    "DOVI_RPU_BUFFER": "Dolby Vision data",
    "S12M_TIMECODE": "timecode of the frames",
    "SPHERICAL": "360-degree layout",
    "STEREO3D": "stereo layout",
}
_FLAT = {"SPHERICAL": 4, "STEREO3D": 0}  # their first number where they say nothing but "a usual picture"


def side_data(frame: "av.VideoFrame", name: str) -> bytes:
    """What FFmpeg's AVFrameSideData of a type holds, by PyAV's name of the type; empty if there is none."""
    try:
        data = frame.side_data.get(name)
    except ValueError:  # PyAV 18 fails for all of a frame's side data if one is of a type it does not know
        return b""
    return b"" if data is None else bytes(data)


def bits(frame: "av.VideoFrame") -> int:
    """How many bits the samples of a channel have."""
    return max(component.bits for component in frame.format.components)


def is_deep(frame: "av.VideoFrame") -> bool:
    """Whether a frame has more than 8 bits or is HDR, which shows bands in 8 bits."""
    return bits(frame) > 8 or frame.color_trc in (_PQ, _HLG)


def frame_losses(frame: "av.VideoFrame") -> Iterator[str]:
    """What of a frame is not written again, in short phrases."""
    if bits(frame) > 10:
        yield f"{bits(frame)} bits (10 are kept)"
    has_alpha = any(component.is_alpha for component in frame.format.components)
    if has_alpha and frame.reformat(format="rgba").to_ndarray()[..., 3].min() < 255:
        yield "alpha"
    for name, phrase in _UNWRITTEN.items():
        data = side_data(frame, name)
        if data and int.from_bytes(data[:4], sys.byteorder) != _FLAT.get(name):
            yield phrase


def colour_matrix(frame: "av.VideoFrame", source: Path) -> int:
    """H.273's number of the matrix between YCbCr and RGB.

    Raises:
        UserError: it is none that can be converted; the message names `source`.
    """
    matrix = int(frame.colorspace)
    if matrix in _MATRICES:
        return matrix
    if matrix not in (0, UNSPECIFIED, 3):  # 0 is RGB's, 3 is reserved
        raise UserError(f"{source}: its colours are coded in a way (matrix {matrix}) that is not read here")
    if side_data(frame, "DOVI_METADATA"):  # of profile 5: the others name their matrix
        raise UserError(f"{source}: Dolby Vision without a picture for other players is not read here")
    if frame.color_trc in (_PQ, _HLG) or frame.color_primaries == _BT2020_PRIMARIES:
        return _BT2020
    return _BT709 if frame.width > 1280 or frame.height > 576 else _BT601


def frame_to_rgb(
    frame: "av.VideoFrame", reformatter: "VideoReformatter", source: Path, *, deep: bool = False
) -> np.ndarray:
    """RGB, uint8 or for `deep` uint16 (H, W, 3), as stored; chroma is taken to lie where the frame says.

    Raises:
        UserError: as `colour_matrix`.
    """
    name = frame.format.name
    full = frame.color_range == FULL or frame.format.is_rgb or name.startswith(("yuvj", "gray", "pal"))
    if frame.color_range == LIMITED and name.startswith("gray"):
        full = False
    if not frame.format.is_rgb:
        frame.colorspace = colour_matrix(frame, source)
    # Without the flags, swscale darkens by 1 to 2 levels of 255 and repeats chroma instead of interpolating.
    flags = Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP
    rgb = reformatter.reformat(
        frame,
        format="rgb48le" if deep else "rgb24",
        src_color_range=FULL if full else LIMITED,
        dst_color_range=FULL,
        interpolation=Interpolation.BICUBIC | flags,
    )
    return rgb.to_ndarray()


def rgb_to_yuv(
    shape: Sequence[int], matrix: int, *, deep: bool = False
) -> Callable[[np.ndarray], "av.VideoFrame"]:
    """A function from RGB of `shape` (H, W, 3), both even, to a frame of 4:2:0 in limited range.

    RGB of uint8 becomes 8 bits, for `deep` RGB of uint16 becomes 10 bits. Chroma lies to the left between two
    rows, the default of H.264, HEVC and VP9. PyAV's reformatter would put it in the middle.
    """
    height, width, _ = shape
    rgb_format, yuv_format = ("rgb48le", "yuv420p10le") if deep else ("rgb24", "yuv420p")
    graph = av.filter.Graph()
    graph.link_nodes(
        graph.add("buffer", f"video_size={width}x{height}:pix_fmt={rgb_format}:time_base=1/1"),
        graph.add(
            "scale",
            f"{width}:{height}:flags=bilinear+accurate_rnd+full_chroma_int+full_chroma_inp"
            f":out_color_matrix={_MATRICES[matrix]}:in_range=full:out_range=limited"
            ":out_h_chr_pos=0:out_v_chr_pos=128",
        ),
        graph.add("format", f"pix_fmts={yuv_format}"),
        graph.add("buffersink"),
    ).configure()

    def convert(rgb: np.ndarray) -> "av.VideoFrame":
        graph.vpush(av.VideoFrame.from_ndarray(rgb, rgb_format))
        return graph.vpull()

    return convert


def _display(frame: "av.VideoFrame") -> tuple[int, int, int, int]:
    """(a, b, c, d) of the display matrix, which maps stored to shown: x' = ax + cy, y' = bx + dy.

    ISO/IEC 14496-12, 8.2.2. Only quarter turns and mirrors count, which is what cameras write.
    """
    data = side_data(frame, "DISPLAYMATRIX")
    if data:
        a, b, _, c, d, *_ = np.frombuffer(data, np.int32).tolist()  # row by row: a b u, c d v, x y w
        if (a == d == 0 and b and c) or (b == c == 0 and a and d):
            return a, b, c, d
    # Counterclockwise, and known where the matrix cannot be read: see `side_data`.
    turned = {90: (0, -1, 1, 0), 180: (-1, 0, 0, -1), 270: (0, 1, -1, 0)}
    return turned.get(frame.rotation % 360, (1, 0, 0, 1))


def is_turned(frame: "av.VideoFrame") -> bool:
    """Whether rows are shown as columns."""
    return _display(frame)[0] == 0


def upright(rgb: np.ndarray, frame: "av.VideoFrame") -> np.ndarray:
    """The picture (H, W, 3) of `frame` as it is to be shown: (H, W, 3), or (W, H, 3) if it is turned."""
    a, b, c, d = _display(frame)
    if a == 0:
        rgb, horizontal, vertical = rgb.swapaxes(0, 1), c, b  # (W, H, 3)
    else:
        horizontal, vertical = a, d
    return np.ascontiguousarray(rgb[:: -1 if vertical < 0 else 1, :: -1 if horizontal < 0 else 1])


def make_even(rgb: np.ndarray) -> np.ndarray:
    """(H, W, 3) with the last row and column repeated where H and W are odd."""
    height, width, _ = rgb.shape
    return np.pad(rgb, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
