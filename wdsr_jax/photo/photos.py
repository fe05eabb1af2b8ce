"""Photographs with their metadata, read from and written to files.

What comes in: PNG, JPEG (and the phones' MPO), TIFF, WebP, AVIF, JPEG 2000, BMP, GIF and PPM, of 8 or 16
bits, grey, RGB, palette, CMYK or Lab, with or without alpha. What goes out: `formats.FORMATS`. 16 bits stay
16 bits from PNG and TIFF to PNG and TIFF, and become 8 elsewhere.
"""

import io
import os
import re
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image, ImageFile

from wdsr_jax.errors import UserError
from wdsr_jax.image.files import encoding, open_image, reading, save
from wdsr_jax.image.jpeg import Segment, read_segments, without_segments
from wdsr_jax.image.pixels import dihedral
from wdsr_jax.image.plugins import turns_itself
from wdsr_jax.photo.colour import for_8_bits, grey_to_srgb, rgb_to_srgb
from wdsr_jax.photo.compression import Compression, compression_of
from wdsr_jax.photo.decode import read_channels, read_planar_channels
from wdsr_jax.photo.exif import PREFIX, needs_much_memory
from wdsr_jax.photo.formats import FORMATS, check_size, format_of
from wdsr_jax.photo.ifd import MARKS, Ifd, Tag, read_header
from wdsr_jax.photo.losses import DAMAGED_EXIF, lost_in_reading, lost_in_writing
from wdsr_jax.photo.metadata import (
    SEGMENT,
    Metadata,
    fits_jpeg,
    jpeg_iptc,
    metadata_with_size,
    png_chunks,
    read_metadata,
    read_source,
)
from wdsr_jax.photo.png import write_png
from wdsr_jax.photo.rows import row_ranges
from wdsr_jax.photo.tiff import full_size_ifd, single_channel_files, write_tiff
from wdsr_jax.system.files import open_regular, replacing

# The symmetry (see `dihedral`) that turns stored pixels upright, by EXIF's orientation.
EXIF_ORIENTATION = {2: 1, 3: 3, 4: 2, 5: 4, 6: 6, 7: 7, 8: 5}
_MAX_STREAM = 2**31  # bytes read from a pipe
_MULTI_PICTURE = b"MPF\0"  # before the index of the pictures in a JPEG
_MAX_MARKS = 100  # of EXIF in an AVIF; more is an attack
_MAX_EXIF = 2**24  # bytes
_DEFAULT_QUALITY = {"jpeg": 92, "webp": 90, "avif": 80}


class Photo(NamedTuple):
    """A photograph.

    Attributes:
        pixels: (H, W, 1) grey or (H, W, 3) RGB, uint8 or uint16, upright.
        alpha: (H, W) of the same type, straight (not multiplied into the pixels); None: the file has none.
        metadata: what else the file holds.
        lost: what the file held and this does not, in a few words each, such as "HDR gain map".
        compression: of the file.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    metadata: Metadata = Metadata()
    lost: tuple[str, ...] = ()
    compression: Compression = Compression()


def read_photo(file: str | os.PathLike | BinaryIO, name: str | None = None) -> Photo:
    """Reads a photograph and turns it upright.

    1-bit images become grey; palettes become RGB, with alpha if a colour is transparent; CMYK and Lab become
    sRGB, CMYK by the profile that the file holds, if any. Of files with a second, lesser picture (gain map,
    thumbnail, mask) the first is read.

    Args:
        file: path, or a file open for reading in binary mode, such as `sys.stdin.buffer`.
        name: for messages; None: the path.

    Raises:
        UserError: there is no such file, or it is no regular file, empty, damaged, of no known format,
            animated, a TIFF of several pages, of more than 178 megapixels, its pixels are no integers of up
            to 16 bits, or its colours are those of HDR.
    """
    name = str(file) if name is None else name
    with (
        reading(name),
        open_regular(file)
        if isinstance(file, str | os.PathLike)
        else nullcontext(_seekable(file, name)) as stream,
    ):
        stream, exif, emptied = _without_heavy_tags(stream)
        ifd = _read_ifd(stream, name)
        planar_channels = single_channel_files(stream, ifd) if ifd else []

        def reopen() -> ImageFile.ImageFile:
            image = open_image(stream, name)
            if ifd:
                image.seek(ifd.page)
            return image

        with open_image(planar_channels[0], name) if planar_channels else reopen() as image:
            _check_frames(image, ifd, name)
            if ifd and planar_channels:
                channels = read_planar_channels(planar_channels, ifd, name)
            else:
                channels = read_channels(image, ifd, reopen, name)
            source = read_source(image, stream, ifd, exif)
            turned = EXIF_ORIENTATION.get(source.orientation, 0)
            if not planar_channels and (ifd or turns_itself(image)):
                turned = 0
            lost = lost_in_reading(image, stream, ifd, source.xmp, channels, source.orientation != 1)
            channels = np.ascontiguousarray(dihedral(channels, turned))  # (H, W, C)
            colours = channels.shape[-1] - 1 | 1  # 1 of 1 and 2, 3 of 3 and 4
            metadata = read_metadata(source, channels.shape[:2], colours, name)
            compression = compression_of(image, metadata.lossless)
    if (emptied or (source.exif and not metadata.exif)) and DAMAGED_EXIF not in lost:
        lost += (DAMAGED_EXIF,)
    if colours == channels.shape[-1]:
        return Photo(channels, None, metadata, lost, compression)
    pixels, alpha = (np.ascontiguousarray(part) for part in (channels[..., :-1], channels[..., -1]))
    return Photo(pixels, alpha, metadata, lost, compression)


def write_photo(path: str | os.PathLike, photo: Photo, *, quality: int | None = None) -> tuple[str, ...]:
    """Writes a photograph, in the format that the ending names; the file appears whole or not at all.

    Args:
        path: ends in .png, .jpg, .webp, .tif, .avif, .bmp or .ppm, or another ending of these formats.
        photo: what to write. Its metadata is brought up to its size. Formats without alpha show it on white,
            those without colour profiles get sRGB.
        quality: 1 to 100, for JPEG (None: 92), WebP (90) and AVIF (80); from 90 on with full resolution of
            colour in JPEG and AVIF. Without it, what was a WebP without loss stays one. The other formats
            are lossless.

    Returns:
        What the format cannot hold of the photograph, in a few words each, such as "16 bits (written as 8)".

    Raises:
        UserError: the ending is of no such format, the image is too large for it, or the disk is full, etc.
    """
    output_format = format_of(path)
    with encoding(str(path)):
        check_size(path, output_format, *photo.pixels.shape[1::-1])
        with replacing(path) as file:
            return _encode(file, photo, output_format, quality)


def encode_photo(
    file: BinaryIO, photo: Photo, *, format: str, quality: int | None = None, name: str = "-"
) -> tuple[str, ...]:
    """`write_photo` to an open file, which may be a pipe, such as `sys.stdout.buffer`.

    Args:
        file: open for writing in binary mode.
        photo: see `write_photo`.
        format: a key of `formats.FORMATS`.
        quality: see `write_photo`.
        name: for messages.

    Returns:
        See `write_photo`.

    Raises:
        UserError: the image is too large for the format, or the file cannot be written.
    """
    with encoding(name):
        check_size(name, format, *photo.pixels.shape[1::-1])
        if format == "tiff":  # its head is written last
            with tempfile.TemporaryFile() as whole:
                lost = _encode(whole, photo, format, quality)
                whole.seek(0)
                while block := whole.read(2**20):
                    file.write(block)
        else:
            lost = _encode(file, photo, format, quality)
        file.flush()
    return lost


# Reading.


def upright_size(path: str | os.PathLike) -> tuple[int, int] | None:
    """(H, W) of a photograph turned upright, from its header alone; None where that cannot be read."""
    try:
        with reading(str(path)), open_regular(path) as file:
            stream, exif, _ = _without_heavy_tags(file)
            ifd = _read_ifd(stream, str(path))
            with open_image(stream, str(path)) as image:
                if ifd:
                    image.seek(ifd.page)
                # Pillow turns a TIFF's size itself.
                turned = not ifd and not turns_itself(image)
                if turned and read_source(image, stream, ifd, exif).orientation > 4:
                    return image.width, image.height
                return image.height, image.width
    except UserError:  # it is named when it is read
        return None


def _seekable(file: BinaryIO, name: str) -> BinaryIO:
    if file.seekable():
        return file
    whole = io.BytesIO()
    while block := file.read(2**20):
        if whole.tell() > _MAX_STREAM:
            raise UserError(f"{name}: more than {_MAX_STREAM // 2**30} GB; not read")
        whole.write(block)
    return whole


def _read_ifd(file: BinaryIO, name: str) -> Ifd | None:
    """The directory of the picture to read in a TIFF; None where the file is of another format."""
    file.seek(0)
    head = file.read(10)
    layout = MARKS.get(head[:4])
    if layout is None:
        return None
    if layout.big and layout.order == ">":
        raise UserError(f"{name}: big-endian BigTIFF is not read; save it anew")
    ifd, count = full_size_ifd(file)
    if ifd is None or head[8:] == b"CR" or Tag.DNG_VERSION in ifd.tags:  # thumbnails only, Canon's CR2, DNG
        raise UserError(f"{name}: camera raw is not read; develop it to TIFF first")
    if count > 1:
        raise UserError(f"{name}: {count} pages; save the page you want as a file of its own")
    return ifd


def _check_frames(image: ImageFile.ImageFile, ifd: Ifd | None, name: str) -> None:
    if ifd is None and image.format not in ("MPO", "HEIF") and (frames := getattr(image, "n_frames", 1)) > 1:
        raise UserError(f"{name}: {frames} frames; animations are not enlarged, save the frame you want")


def _without_heavy_tags(stream: BinaryIO) -> tuple[BinaryIO, bytes, bool]:
    """A file without those tags that Pillow would need far more memory for than they have.

    Returns:
        The file, the EXIF block where a JPEG's is left out, and whether that of an AVIF or HEIF was emptied.

    Raises:
        ValueError: the file is full of what looks like EXIF.
    """
    stream, exif = _without_heavy_segments(stream)
    stream, emptied = _without_heavy_exif(stream)
    return stream, exif, emptied


def _without_heavy_segments(stream: BinaryIO) -> tuple[BinaryIO, bytes]:
    """A JPEG without those blocks of tags that Pillow would need far more memory for than they have.

    Returns:
        The file, or one without these segments, and the EXIF block where it is left out.
    """
    blocks: dict[bytes, list[Segment]] = {PREFIX: [], _MULTI_PICTURE: []}
    for segment in read_segments(stream):
        for mark, found in blocks.items():
            if segment.data.startswith(mark):
                found.append(segment)
    exif = b"".join(segment.data.removeprefix(PREFIX) for segment in blocks[PREFIX])  # as Pillow joins them
    heavy = blocks[PREFIX] if needs_much_memory(exif) else []
    heavy += [part for part in blocks[_MULTI_PICTURE] if needs_much_memory(part.data[len(_MULTI_PICTURE) :])]
    if not heavy:
        return stream, b""
    stream.seek(0)
    whole = without_segments(stream.read(), sorted(heavy, key=lambda segment: segment.position))
    return io.BytesIO(whole), exif if heavy[0] in blocks[PREFIX] else b""


def _without_heavy_exif(stream: BinaryIO) -> tuple[BinaryIO, bool]:
    """An AVIF or HEIF whose EXIF is emptied where Pillow would need far more memory for it than it has.

    Returns:
        The file, and whether its EXIF was emptied.

    Raises:
        ValueError: the file is full of what looks like EXIF.
    """
    stream.seek(0)
    if stream.read(12)[4:8] != b"ftyp":
        return stream, False
    stream.seek(0)
    content = stream.read()
    for count, mark in enumerate(re.finditer(rb"II\*\0|MM\0\*", content)):
        if count == _MAX_MARKS:
            raise ValueError("its EXIF is damaged")
        block = content[mark.start() : mark.start() + _MAX_EXIF]
        if needs_much_memory(block):
            directory = mark.start() + read_header(block)[1]
            return io.BytesIO(content[:directory] + bytes(2) + content[directory + 2 :]), True
    return stream, False


# Writing.


def _encode(file: BinaryIO, photo: Photo, output_format: str, quality: int | None) -> tuple[str, ...]:
    pixels, alpha = photo.pixels, photo.alpha
    metadata = metadata_with_size(photo.metadata, pixels.shape[:2])
    if output_format == "png":
        write_png(file, pixels, alpha, png_chunks(metadata))
    elif output_format == "tiff":
        write_tiff(
            file,
            pixels,
            alpha,
            exif=metadata.exif,
            dpi=metadata.dpi,
            aspect=metadata.aspect,
            kept=dict(metadata.tiff),
            others={Tag.ICC_PROFILE: metadata.icc, Tag.XMP: metadata.xmp, Tag.IPTC: metadata.iptc},
        )
    else:
        _encode_by_pillow(file, pixels, alpha, metadata, output_format, quality)
    return lost_in_writing(pixels, alpha, metadata, output_format)


def _encode_by_pillow(
    file: BinaryIO,
    pixels: np.ndarray,
    alpha: np.ndarray | None,
    metadata: Metadata,
    output_format: str,
    quality: int | None,
) -> None:
    colours = pixels.shape[2]
    icc, table = for_8_bits(metadata.icc, pixels.dtype)
    convert = None
    no_profile = output_format not in _DEFAULT_QUALITY  # BMP and PPM
    # WebP, and AVIF with alpha, store grey as R = G = B, which a profile for grey does not fit.
    stored_as_rgb = output_format == "webp" or (output_format == "avif" and alpha is not None)
    if icc and colours == 1 and (no_profile or stored_as_rgb):
        icc, table = b"", grey_to_srgb(metadata.icc, pixels.dtype)
    elif icc and no_profile:
        convert = rgb_to_srgb(icc)
    image = _image(pixels, alpha, FORMATS[output_format].has_alpha, table, convert)
    options: dict = {}
    if output_format in _DEFAULT_QUALITY:
        options |= {"quality": _DEFAULT_QUALITY[output_format] if quality is None else quality}
        options |= {"icc_profile": icc, "exif": metadata.exif, "xmp": metadata.xmp}
    if output_format == "jpeg":
        options["subsampling"] = "4:4:4" if options["quality"] >= 90 else "4:2:0"
        exif, xmp = metadata.exif, metadata.xmp
        options["exif"] = PREFIX + exif if exif and fits_jpeg("EXIF", exif) else b""
        options["xmp"] = xmp if fits_jpeg("XMP", xmp) else b""
        options["comment"] = metadata.comment[:SEGMENT]
        options["extra"] = jpeg_iptc(metadata.iptc)
    if output_format == "webp" and metadata.lossless and quality is None:
        options |= {"lossless": True, "exact": True}  # exact: hidden colours stay as well
    if output_format == "avif" and colours == 3:
        options["subsampling"] = "4:4:4" if options["quality"] >= 90 else "4:2:0"
    if output_format in ("jpeg", "bmp") and metadata.dpi:
        options["dpi"] = metadata.dpi
    save(image, file, output_format.upper(), **{key: value for key, value in options.items() if value != b""})


def _image(
    pixels: np.ndarray,
    alpha: np.ndarray | None,
    keep_alpha: bool,
    table: np.ndarray | None,
    convert: Callable[[Image.Image], Image.Image] | None,
) -> Image.Image:
    """Pillow's image of 8 bits, made block by block: beside it there is no copy of the pixels.

    Args:
        pixels: (H, W, 1) or (H, W, 3), uint8 or uint16.
        alpha: (H, W) of the same type, or None.
        keep_alpha: whether the image gets the alpha channel; else it is shown on white.
        table: (256,) or (65536,) uint8, the value to write for each value; None: the values themselves.
        convert: from the colours of the pixels to those to write; None: they are the same.
    """
    height, width, colours = pixels.shape
    with_alpha = keep_alpha and alpha is not None
    image = Image.new({1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[colours + with_alpha], (width, height))
    for start, stop in row_ranges(pixels):
        rows = pixels[start:stop]  # (rows, W, C)
        rows = _of_8_bits(rows) if table is None else table[rows]
        if convert:
            rows = np.asarray(convert(Image.fromarray(rows)))
        if alpha is not None:
            cover = _of_8_bits(alpha[start:stop, :, None])
            if keep_alpha:
                rows = np.concatenate([rows, cover], axis=-1)
            else:
                cover = cover.astype(np.uint32)
                rows = ((rows * cover + 255 * (255 - cover) + 127) // 255).astype(np.uint8)
        image.paste(Image.fromarray(rows[..., 0] if rows.shape[-1] == 1 else rows), (0, start))
    return image


def _of_8_bits(values: np.ndarray) -> np.ndarray:
    return values if values.dtype == np.uint8 else ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
