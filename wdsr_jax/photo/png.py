"""PNG files of 8 and 16 bits.

Pillow writes no colour of 16 bits, and needs a copy of the image and four times as long. Here every row is
filtered by Paeth's predictor, and what is left is coded by Huffman codes and runs (zlib's Z_RLE): of upscaled
photographs that gave files as small as zlib's level 6 with the filters chosen row by row.

Source: Portable Network Graphics Specification, third edition, W3C 2025, sections 5, 9, 10 and 11.
"""

import struct
import zlib
from collections.abc import Iterable
from typing import BinaryIO

import numpy as np

from wdsr_jax.photo.rows import interleaved, row_ranges
from wdsr_jax.system.pool import map_ordered

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # by channels
_PAETH = 4
_ADLER_BASE = 65521


def write_png(
    file: BinaryIO, pixels: np.ndarray, alpha: np.ndarray | None, chunks: Iterable[tuple[bytes, bytes]] = ()
) -> None:
    """Writes an image as PNG, never holding more than a few megabytes beside it.

    Args:
        file: written from front to back; a pipe is enough.
        pixels: (H, W, 1) grey or (H, W, 3) RGB, uint8 or uint16.
        alpha: (H, W) of the same type, straight; or None.
        chunks: (type, data) of ancillary chunks, written before the pixels.

    Raises:
        OSError: the file cannot be written.
    """
    height, width, channels = pixels.shape
    channels += alpha is not None
    depth = 8 * pixels.itemsize
    file.write(SIGNATURE)
    header = struct.pack(">IIBBBBB", width, height, depth, _COLOUR_TYPES[channels], 0, 0, 0)
    for kind, data in ((b"IHDR", header), *chunks):
        file.write(_chunk(kind, data))

    def encode(rows: tuple[int, int]) -> tuple[bytes, int, int]:
        start, stop = rows
        filtered = _filtered(pixels, alpha, start, stop)
        packer = zlib.compressobj(1, zlib.DEFLATED, -15, 9, zlib.Z_RLE)
        packed = packer.compress(filtered.data)
        packed += packer.flush(zlib.Z_FINISH if stop == height else zlib.Z_SYNC_FLUSH)
        if start == 0:
            packed = b"\x78\x01" + packed  # the head of a zlib stream
        return packed, zlib.adler32(filtered.data), filtered.size

    checksum = 1
    for packed, of_block, size in map_ordered(encode, row_ranges(pixels)):
        checksum = _adler32_joined(checksum, of_block, size)
        file.write(_chunk(b"IDAT", packed))
    file.write(_chunk(b"IDAT", struct.pack(">I", checksum)))
    file.write(_chunk(b"IEND", b""))


def read_chunks(file: BinaryIO, kinds: Iterable[bytes], limit: int = 2**24) -> list[tuple[bytes, bytes]]:
    """(type, data) of the chunks of those types in a PNG file, up to `limit` bytes of them."""
    found = []
    file.seek(len(SIGNATURE))
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind == b"IEND" or (kind in kinds and length > limit):
            break
        if kind in kinds:
            found.append((kind, file.read(length)))
            limit -= length
            file.seek(4, 1)
        else:
            file.seek(length + 4, 1)
    return found


def _chunk(kind: bytes, data: bytes) -> bytes:
    return b"".join(
        [struct.pack(">I", len(data)), kind, data, struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))]
    )


def _filtered(pixels: np.ndarray, alpha: np.ndarray | None, start: int, stop: int) -> np.ndarray:
    """Rows start..stop less their prediction, as the file holds them: (rows, 1 + bytes of a row), uint8.

    Paeth's predictor takes, of the bytes to the left, above and above to the left, the one that is nearest to
    left + above - above left.
    """
    rows = interleaved(pixels, alpha, max(start - 1, 0), stop)
    if rows.dtype == np.uint16:
        rows = rows.astype(">u2")
    pixel = rows.shape[-1] * rows.itemsize
    data = np.ascontiguousarray(rows).view(np.uint8).reshape(len(rows), -1)  # (rows, W * pixel)
    # The row above the first and the pixels left of it count as black.
    padded = np.zeros((stop - start + 1, pixel + data.shape[1]), np.uint8)
    padded[-len(data) :, pixel:] = data

    left, above, corner = padded[1:, :-pixel], padded[:-1, pixel:], padded[:-1, :-pixel]
    to_above = above.astype(np.int16) - corner  # distance of the prediction from `left`
    to_left = left.astype(np.int16) - corner  # and from `above`
    to_corner = np.abs(to_above + to_left)
    np.abs(to_above, out=to_above)
    np.abs(to_left, out=to_left)
    predicted = np.where(to_left <= to_corner, above, corner)
    predicted = np.where((to_above <= to_left) & (to_above <= to_corner), left, predicted)

    filtered = np.empty((stop - start, 1 + data.shape[1]), np.uint8)
    filtered[:, 0] = _PAETH
    np.subtract(padded[1:, pixel:], predicted, out=filtered[:, 1:])
    return filtered


def _adler32_joined(first: int, second: int, size: int) -> int:
    """The checksum of two strings one after the other, from their own and the size of the second."""
    low = (first & 0xFFFF) - 1
    high = (first >> 16) + (second >> 16) + size * low
    return high % _ADLER_BASE << 16 | (low + (second & 0xFFFF)) % _ADLER_BASE
