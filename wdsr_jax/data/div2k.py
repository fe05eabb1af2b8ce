"""DIV2K (Agustsson and Timofte, NTIRE 2017) as a TFDS data set that needs no TensorFlow.

Each archive is one configuration: `hr`, and one for each degradation (track and scale), so that the HR images
are stored once and not with each track. `load_div2k` joins the two by name.

The archives (4 GB for `hr`, 0.1 to 1.1 GB for a track) are kept in `DATA_DIR/downloads/manual`. Behind a
firewall, put the files of https://data.vision.ee.ethz.ch/cvl/DIV2K/ there by hand, under their own names:
they are checked and used instead of a download. Once the data is prepared they may be deleted.

Three things are not left to tensorflow-datasets (4.9.10):
- A `GeneratorBasedBuilder` sorts its examples in temporary files, written by TensorFlow, as soon as a split
  has more than 1000 MiB (`core/shuffle.py`); `hr` and `realistic_wild_x4` have. A `ShardBasedBuilder` writes
  its examples straight away, in the order in which they come.
- Its extractor writes by TensorFlow. The PNG files are taken from the archives as they are needed, which also
  spares their space on the disk.
- Its downloader asks a closed port for three minutes, waits without end for a silent server, starts each time
  from the first byte, and after Ctrl-C goes on to the end of the file. `download.fetch` puts the archives
  where tensorflow-datasets looks for files downloaded by hand, and there it checks their SHA-256.
"""

import functools
import io
import re
import shutil
import types
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from tensorflow_datasets.core.download import checksums
from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError
from tqdm import tqdm

from wdsr_jax.data.dataset import Images
from wdsr_jax.data.download import fetch
from wdsr_jax.errors import UserError
from wdsr_jax.image.files import read_image
from wdsr_jax.system.locks import lock_folder

URL = "https://data.vision.ee.ethz.ch/cvl/DIV2K/"
# Sizes and SHA-256, as the stock `div2k` of tensorflow-datasets has them (datasets/div2k/checksums.tsv).
CHECKSUMS = Path(__file__).with_name("div2k_checksums.tsv")

SPLITS = {"train": "train", "validation": "valid"}  # images 0001 to 0800 and 0801 to 0900
# (track, scale): the configuration, named as in the stock builder, and its archive DIV2K_{split}_{...}.zip.
TRACKS = {
    ("bicubic", 2): ("bicubic_x2", "LR_bicubic_X2"),
    ("bicubic", 3): ("bicubic_x3", "LR_bicubic_X3"),
    ("bicubic", 4): ("bicubic_x4", "LR_bicubic_X4"),
    ("bicubic", 8): ("bicubic_x8", "LR_x8"),
    ("unknown", 2): ("unknown_x2", "LR_unknown_X2"),
    ("unknown", 3): ("unknown_x3", "LR_unknown_X3"),
    ("unknown", 4): ("unknown_x4", "LR_unknown_X4"),
    ("mild", 4): ("realistic_mild_x4", "LR_mild"),
    ("difficult", 4): ("realistic_difficult_x4", "LR_difficult"),
    ("wild", 4): ("realistic_wild_x4", "LR_wild"),
}
ARCHIVES = {"hr": "HR"} | dict(TRACKS.values())
# 0001.png, 0001x2.png, 0001x4m.png, 0001x4d.png, 0001x4w.png, and 0001x4w1.png to 0001x4w4.png: wild has four
# LR images for each HR image in train. Names and folders: https://github.com/Coloquinte/torchSR
# (torchsr/datasets/div2k.py) and mindspore.dataset.DIV2KDataset. Folders are not looked at.
PNG = re.compile(r"(?:.*/)?(\d{4})(?:x\d[mdw]?)?(\d?)\.png")


class Div2k(NamedTuple):
    """HR and LR images of one split: `lr.load(i)` was made from `hr.load(hr_of[i])`.

    Names are "0001", "0002", ... in order, and "0001w1" to "0001w4" where there are four LR for one HR. The
    fingerprints hold data set, configuration, version, split and the SHA-256 of the archive.
    """

    hr: Images
    lr: Images
    hr_of: list[int]


def load_div2k(track: str, scale: int, split: str, data_dir: str | None = None) -> Div2k:
    """Downloads and prepares what is not there yet, and opens one track of DIV2K.

    Processes and hosts that share `data_dir` take turns: the first one prepares, the others wait for it.

    Args:
        track: "bicubic", "unknown", "mild", "difficult" or "wild".
        scale: 2, 3, 4, or 8; not every track has all of them.
        split: "train" (800 HR images) or "validation" (100).
        data_dir: where tensorflow-datasets keeps its data; None is $TFDS_DATA_DIR or ~/tensorflow_datasets.

    Returns:
        The HR and LR images. HR need not be a multiple of the scale in size (1356 rows are none of 8).

    Raises:
        UserError: the track has no such scale; no network; a damaged archive; no space or no right to write.
    """
    if (track, scale) not in TRACKS:
        there = ", ".join(
            " ".join([name, *(f"x{s}" for t, s in TRACKS if t == name)]) for name in dict(TRACKS.keys())
        )
        raise UserError(f"config.data.track={track}: scale {scale} is not in the data; DIV2K has {there}")
    hr = _open("hr", split, data_dir)
    lr = _open(TRACKS[track, scale][0], split, data_dir)
    index = {name: i for i, name in enumerate(hr.names)}
    return Div2k(hr, lr, [index[name[:4]] for name in lr.names])


class WdsrDiv2k(tfds.core.ShardBasedBuilder):
    """Examples {"name": "0001", "image": (H, W, 3)}, each image stored as the PNG file of the archive."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=name) for name in ARCHIVES]  # noqa: RUF012

    @property
    def url_infos(self) -> dict[str, checksums.UrlInfo]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Size and SHA-256 of each URL, which tensorflow-datasets checks."""
        infos = checksums.load_url_infos(CHECKSUMS)
        return {URL + str(info.filename): info for info in infos.values()}

    def urls(self) -> dict[str, str]:
        """The archive of each split."""
        kind = ARCHIVES[str(self.builder_config_name)]
        return {split: f"{URL}DIV2K_{short}_{kind}.zip" for split, short in SPLITS.items()}

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {"name": tfds.features.Text(), "image": tfds.features.Image(encoding_format="png")}
            ),
            homepage=URL,
            metadata=tfds.core.MetadataDict(),  # for the names: they are listed without reading the images
        )

    def _shard_iterators_per_split(self, dl_manager: Any):
        archives: dict[str, Path] = dl_manager.download(self.urls())
        members = {split: _members(path) for split, path in archives.items()}
        assert self.info.metadata is not None  # made in `_info`
        self.info.metadata.update({split: list(found) for split, found in members.items()})
        return {
            split: [functools.partial(self._examples, split, archives[split], found)]
            for split, found in members.items()
        }

    def _examples(self, split: str, archive: Path, members: dict[str, str]) -> Iterator[tuple[str, dict]]:
        label = f"{self.builder_config_name} {split}"
        with zipfile.ZipFile(archive) as file:
            for name, member in tqdm(members.items(), label, unit="image", disable=None):
                # Something with a read(), not the bytes: tensorflow-datasets holds all examples of a shard.
                png = types.SimpleNamespace(read=functools.partial(file.read, member))
                yield name, {"name": name, "image": png}

    def _log_download_bytes(self):  # instead of "Downloading and preparing dataset Unknown size" on stdout
        logging.info("Checking and preparing %s in %s", self.info.full_name, self.data_dir)

    def _log_download_done(self):
        pass


def _members(archive: Path) -> dict[str, str]:
    """The images of an archive: sorted names and the members that hold them."""
    with zipfile.ZipFile(archive) as file:
        matches = filter(None, map(PNG.fullmatch, file.namelist()))
        return dict(sorted((match[1] + (match[2] and f"w{match[2]}"), match.string) for match in matches))


def _open(config: str, split: str, data_dir: str | None) -> Images:
    builder = _prepare(config, data_dir)
    damaged = f"{builder.data_dir}: damaged; delete this folder and start again"
    try:
        names = (builder.info.metadata or {})[split]
        decoders = {"image": tfds.decode.SkipDecoding()}
        records = builder.as_data_source(split, decoders=decoders)  # pyright: ignore[reportCallIssue]
    except Exception as error:  # many kinds, by what is missing or broken in which file
        raise UserError(f"{damaged} ({error})") from None

    def load(i: int) -> np.ndarray:
        try:
            return read_image(io.BytesIO(records[i]["image"]))
        except Exception as error:
            raise UserError(f"{damaged} ({error})") from None

    checksum = builder.url_infos[builder.urls()[split]].checksum
    return Images(names, load, f"{builder.info.full_name}/{split}/{checksum}")


def _prepare(config: str, data_dir: str | None) -> WdsrDiv2k:
    """Makes sure that one configuration is in `data_dir`, whole."""

    def make() -> WdsrDiv2k:  # it looks at the disk when it is made
        folder = Path(data_dir).expanduser() if data_dir else None
        return WdsrDiv2k(config=config, data_dir=folder, file_format="array_record")

    builder = make()
    if builder.data_path.exists():  # it is renamed to this when it is complete
        return builder
    root = Path(builder.data_dir_root)

    def log_waiting() -> None:
        logging.info("Waiting for another process that prepares DIV2K in %s", root)

    try:
        root.mkdir(parents=True, exist_ok=True)
        with lock_folder(root, "wdsr_div2k.lock", on_busy=log_waiting) as alone:
            builder = make()
            if not builder.data_path.exists():
                if alone:  # what a killed process left behind; what an exception leaves, tfds removes
                    for rest in Path(builder.data_path.parent).glob("incomplete.*"):
                        shutil.rmtree(rest)
                _download_and_prepare(builder, root)
    except NonMatchingChecksumError as error:
        # "Artifact URL, downloaded to PATH, has wrong checksum:" and the two checksums.
        raise UserError(f"{str(error).splitlines()[0]} delete this file and start again") from None
    except zipfile.BadZipFile as error:
        raise UserError(f"{root / 'downloads'}: DIV2K {config} is no intact archive ({error})") from None
    except (OSError, RuntimeError) as error:  # RuntimeError: how array_record tells of a full disk
        reason = getattr(error, "strerror", None) or str(error).split(";")[0]
        raise UserError(f"{root}: cannot be written ({reason})") from None
    return builder


def _download_and_prepare(builder: WdsrDiv2k, root: Path) -> None:
    archives = root / "downloads" / "manual"
    archives.mkdir(parents=True, exist_ok=True)
    infos = [builder.url_infos[url] for url in builder.urls().values()]
    sizes = {str(info.filename): int(info.size) for info in infos}
    missing = {name: size for name, size in sizes.items() if not (archives / name).exists()}
    needed = sum(missing.values()) + sum(sizes.values())  # the archives, and their contents as records
    free = shutil.disk_usage(root).free
    if free < needed:
        raise UserError(
            f"{root}: {free / 1e9:.1f} GB free, DIV2K {builder.builder_config_name} needs "
            f"{needed / 1e9:.1f} GB; make room or set TFDS_DATA_DIR to another folder"
        )
    for name, size in missing.items():
        try:
            fetch(URL + name, archives / name, size)
        except UserError as error:
            raise UserError(
                f"{error}. Without network, train on images of your own (--config.data.source=folder "
                "--config.data.root=DIR) or take --config=configs/quickstart.py, which downloads nothing"
            ) from None
    config = tfds.download.DownloadConfig(
        manual_dir=archives, force_checksums_validation=True, try_download_gcs=False
    )
    tfds.disable_progress_bar()  # of its downloader, which finds all files there
    try:
        builder.download_and_prepare(download_dir=root / "downloads", download_config=config)
    finally:
        tfds.enable_progress_bar()
