"""Between the frames of a video and RGB: colours and orientation.

Frames become RGB by the matrix and range that the stream names, and go back to YCbCr by the same matrix.
Where a stream names none, BT.709 is taken above 576 lines or 1280 columns, BT.601 below, as players do. They
become 8-bit 4:2:0 of limited range: more bits, finer chroma, alpha and HDR's mastering data of a source are
lost; the transfer functions PQ and HLG are kept. Odd sizes, which 4:2:0 cannot have, are made even by
repeating the last row or column. Frames that a display matrix turns or mirrors become upright. Interlaced
frames are not deinterlaced.
"""

from collections.abc import Callable, Sequence
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
_BT709, _BT601 = 1, 6


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
    return _BT709 if frame.width > 1280 or frame.height > 576 else _BT601


def frame_to_rgb(frame: "av.VideoFrame", reformatter: "VideoReformatter", source: Path) -> np.ndarray:
    """RGB, uint8 (H, W, 3), as stored; chroma is taken to lie where the frame says.

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
        format="rgb24",
        src_color_range=FULL if full else LIMITED,
        dst_color_range=FULL,
        interpolation=Interpolation.BICUBIC | flags,
    )
    return rgb.to_ndarray()


def rgb_to_yuv(shape: Sequence[int], matrix: int) -> Callable[[np.ndarray], "av.VideoFrame"]:
    """A function from RGB, uint8 of `shape` (H, W, 3), both even, to a frame of 4:2:0 in limited range.

    Chroma lies to the left between two rows, the default of H.264 and VP9. PyAV's reformatter
    would put it in the middle.
    """
    height, width, _ = shape
    graph = av.filter.Graph()
    graph.link_nodes(
        graph.add("buffer", f"video_size={width}x{height}:pix_fmt=rgb24:time_base=1/1"),
        graph.add(
            "scale",
            f"{width}:{height}:flags=bilinear+accurate_rnd+full_chroma_int+full_chroma_inp"
            f":out_color_matrix={_MATRICES[matrix]}:in_range=full:out_range=limited"
            ":out_h_chr_pos=0:out_v_chr_pos=128",
        ),
        graph.add("format", "pix_fmts=yuv420p"),
        graph.add("buffersink"),
    ).configure()

    def convert(rgb: np.ndarray) -> "av.VideoFrame":
        graph.vpush(av.VideoFrame.from_ndarray(rgb, "rgb24"))
        return graph.vpull()

    return convert


def _display(frame: "av.VideoFrame") -> tuple[int, int, int, int]:
    """(a, b, c, d) of the display matrix, which maps stored to shown: x' = ax + cy, y' = bx + dy.

    ISO/IEC 14496-12, 8.2.2. Only quarter turns and mirrors count, which is what cameras write.
    """
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is not None:
        a, b, _, c, d, *_ = np.frombuffer(bytes(data), np.int32).tolist()  # row by row: a b u, c d v, x y w
        if (a == d == 0 and b and c) or (b == c == 0 and a and d):
            return a, b, c, d
    return 1, 0, 0, 1


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
