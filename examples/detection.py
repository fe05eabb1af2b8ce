"""Draws docs/detection.png and docs/detection_words.png: whether a detector finds and reads more after SR.

python -m examples.detection

Words and numbers are drawn at known places on scikit-image's photographs, which bicubic makes 2, 3 and 4
times smaller, as they are and with noise of 3 levels and JPEG of quality 60. RapidOCR (PP-OCRv4) looks for
them in the small picture, after bicubic, after the clean and the photo network, and in the original. It comes
with its weights by `pip install rapidocr-onnxruntime`; the plot takes matplotlib. Printed are the tables of
docs/detection.md.
"""

import argparse
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

import wdsr_jax
from benchmarks.degraded import degrade_lr
from examples import DOCS
from wdsr_jax.data.sample import sample_files
from wdsr_jax.errors import UserError
from wdsr_jax.image.files import read_image, write_image
from wdsr_jax.image.panels import nearest, side_by_side
from wdsr_jax.photo.network import choose_network
from wdsr_jax.photo.photos import Photo
from wdsr_jax.photo.upscaling import upscale_photo
from wdsr_jax.system.compilation import enable_compilation_cache
from wdsr_jax.system.console import Progress, run_command
from wdsr_jax.system.tables import markdown_table

SCALES, CLEAN, DAMAGED = (2, 3, 4), "clean", "noise 3, JPEG 60"
CASES = [(scale, kind) for scale in SCALES for kind in (CLEAN, DAMAGED)]
SIDE = 504  # of the largest photograph, a multiple of 12
COUNT, SMALLEST, LARGEST = 20, 10, 48  # words a photograph, and their cap heights in HR pixels
WORDS = [
    *("anchor", "basket", "camera", "dinner", "engine", "forest", "garden", "harbour", "island", "jacket"),
    *("kitchen", "ladder", "market", "number", "orange", "pepper", "quarter", "river", "station", "ticket"),
    *("umbrella", "village", "window", "yellow", "zebra"),
]
BINS = (0, 4, 6, 9, 14, np.inf)  # of cap heights in LR pixels
SAME_PLACE = 0.5  # intersection over union
AS_IT_IS, LR, BICUBIC, WDSR, PHOTO, ORIGINAL = (
    "LR, not enlarged",
    "LR",
    "bicubic",
    "WDSR clean",
    "WDSR photo",
    "original",
)
COLUMNS = (AS_IT_IS, LR, BICUBIC, WDSR, PHOTO, ORIGINAL)
SHOWN = ("astronaut", "coffee", "motorcycle_left")  # photographs of docs/detection_words.png
SHOWN_SCALE, SHOWN_HEIGHT, ROWS, COLUMNS_SHOWN = 4, 5.5, 44, 144

Box = tuple[float, float, float, float]  # left, top, right, bottom


class Word(NamedTuple):
    """A word on a photograph.

    Attributes:
        text: what is written.
        height: of its capitals, in pixels of the original.
        box: around its ink, in pixels of the original.
    """

    text: str
    height: float
    box: Box


class Answer(NamedTuple):
    """What the detector made of a word.

    Attributes:
        found: whether a box is where the word is.
        text: what it reads there.
        read: whether that is the word.
    """

    found: bool
    text: str
    read: bool


Detector = Callable[[np.ndarray, float], list[tuple[Box, str]]]  # of an image and the factor of its boxes
Case = tuple[int, str]  # scale, and CLEAN or DAMAGED


def overlap(a: Box, b: Box) -> float:
    """Intersection over union of two boxes."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return both / (sum(areas) - both)


def answers_of(words: Sequence[Word], detected: Sequence[tuple[Box, str]]) -> tuple[list[Answer], int]:
    """What was made of each word, and how many boxes are at no word.

    Texts are compared without regard to case, spaces and punctuation.
    """
    table = np.array([[overlap(word.box, box) for box, _ in detected] for word in words])
    table = table.reshape(len(words), len(detected))
    answers = []
    for word, row in zip(words, table, strict=True):
        found = bool(row.size and row.max() >= SAME_PLACE)
        text = detected[int(row.argmax())][1] if found else ""
        same = "".join(filter(str.isalnum, text)).casefold() == word.text.casefold()
        answers.append(Answer(found, text, found and same))
    return answers, int((table < SAME_PLACE).all(axis=0).sum())


def fonts() -> list[Callable[[float], Any]]:
    """Pillow's own font and two of matplotlib's, by size."""
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    files = [folder / f"{name}.ttf" for name in ("DejaVuSans-Bold", "DejaVuSerif")]
    return [
        ImageFont.load_default,
        *(lambda size, file=file: ImageFont.truetype(file, size) for file in files),
    ]


def mask_of(text: str, height: float, degrees: float, font: Callable[[float], Any]) -> np.ndarray:
    """How much of each pixel is ink: float (H, W) in [0, 1], just as large as the word."""
    _, top, _, bottom = font(100).getbbox("H")
    finer = 4
    sized = font(100 * height * finer / (bottom - top))
    left, top, right, bottom = sized.getbbox(text)
    image = Image.new("L", (int(right - left) + 8, int(bottom - top) + 8))
    ImageDraw.Draw(image).text((4 - left, 4 - top), text, fill=255, font=sized)
    image = image.rotate(degrees, Image.Resampling.BICUBIC, expand=True)
    image = image.crop(image.getbbox()).reduce(finer)
    return np.asarray(image) / 255


def write_words(hr: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, list[Word]]:
    """The photograph with words on it, large ones first, and the words.

    A word that finds no place beside the others is left out.

    Args:
        hr: uint8 (H, W, 3).
        rng: draws texts, fonts, angles of at most 5 degrees, places, and a contrast of 80 to 180 levels with
            what is behind, less where that is too near to black and to white.
    """
    image, words = hr.copy(), []
    taken = np.zeros(hr.shape[:2], bool)
    for height in np.geomspace(LARGEST, SMALLEST, COUNT) * rng.uniform(0.95, 1.05, COUNT):
        number = rng.random() < 0.4
        text = str(rng.integers(1000, 100_000)) if number else str(rng.choice(WORDS))
        text = [text, text.upper(), text.capitalize()][rng.integers(3)]
        mask = mask_of(text, height, rng.uniform(-5, 5), fonts()[rng.integers(3)])[..., None]
        rows, columns, _ = mask.shape
        margin = int(height)
        if rows + 2 * margin > hr.shape[0] or columns + 2 * margin > hr.shape[1]:
            continue
        for _ in range(200):
            top, left = (
                int(rng.integers(margin, side - size - margin + 1))
                for side, size in zip(hr.shape[:2], (rows, columns), strict=True)
            )
            if not taken[top - margin : top + rows + margin, left - margin : left + columns + margin].any():
                break
        else:
            continue
        place = np.s_[top : top + rows, left : left + columns]
        taken[place] = True
        behind = hr[place].mean(axis=(0, 1))
        contrast = rng.uniform(80, 180)
        signs = [sign for sign in (-1, 1) if 0 <= behind.mean() + sign * contrast <= 255] or [
            1 if behind.mean() < 128 else -1
        ]
        colour = behind + rng.choice(signs) * contrast + rng.uniform(-20, 20, 3)
        image[place] = np.clip(image[place] * (1 - mask) + colour * mask, 0, 255).round()
        words.append(Word(text, float(height), (left, top, left + columns, top + rows)))
    return image, words


def detectors() -> tuple[Detector, Detector]:
    """RapidOCR with its own settings, and where it does not enlarge small pictures.

    With its own it enlarges what it looks for words in, bilinearly, until the shorter side has 736 pixels.

    Raises:
        UserError: it is not installed.
    """
    try:
        from rapidocr_onnxruntime import RapidOCR
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is missing: pip install rapidocr-onnxruntime") from None

    def detector(**settings: int) -> Detector:
        # One thread: several of ONNX Runtime's take twice the time where other programs run.
        engine = RapidOCR(text_score=0, use_cls=False, intra_op_num_threads=1, **settings)

        def detect(image: np.ndarray, factor: float) -> list[tuple[Box, str]]:
            found = []
            for corners, text, _ in engine(np.ascontiguousarray(image[..., ::-1]))[0] or []:
                corners = np.array(corners) * factor  # (4, 2), x and y
                found.append(((*corners.min(axis=0), *corners.max(axis=0)), text))
            return found

        return detect

    return detector(), detector(det_limit_side_len=32)


def pictures_of(lr: np.ndarray, scale: int) -> dict[str, np.ndarray]:
    """LR enlarged in each way; the photo network of x4 stands in where there is none of the scale."""
    size = (lr.shape[0] * scale, lr.shape[1] * scale)
    pictures = {BICUBIC: wdsr_jax.imresize(lr, scale)}
    for name, family in ((WDSR, "clean"), (PHOTO, "photo")):
        pictures[name] = upscale_photo(Photo(lr), choose_network(family, scale), size)[0].pixels
    return pictures


def samples() -> Iterator[tuple[str, np.ndarray, list[Word]]]:
    """Name of each photograph, itself with the words, and the words."""
    training, held_out = sample_files()
    once = [path for path in training if path.stem != "motorcycle_right"]  # the scene of motorcycle_left
    for seed, path in enumerate([*once, *held_out]):
        hr = read_image(path)
        height, width = (min(side // 12 * 12, SIDE) for side in hr.shape[:2])
        yield path.stem, *write_words(hr[:height, :width], np.random.default_rng(seed))


class Result(NamedTuple):
    """What was measured.

    Attributes:
        words: all of them.
        answers: by case and column, in the order of `words`.
        false: boxes at no word, by case and column.
    """

    words: list[Word]
    answers: dict[tuple[Case, str], list[Answer]]
    false: Counter[tuple[Case, str]]


def measure() -> tuple[Result, list[np.ndarray]]:
    """Looks for the words, and draws the rows of docs/detection_words.png."""
    enlarging, plain = detectors()
    result = Result([], defaultdict(list), Counter())
    drawn: dict[str, list[np.ndarray]] = {CLEAN: [], DAMAGED: []}
    photographs = list(samples())
    with Progress(len(photographs), "photographs") as progress:
        for name, hr, words in photographs:
            result.words.extend(words)
            original = enlarging(hr, 1)
            for scale, kind in CASES:
                lr = wdsr_jax.imresize(hr, Fraction(1, scale))
                lr = degrade_lr(lr, kind) if kind == DAMAGED else lr
                pictures = pictures_of(lr, scale)
                detected = {AS_IT_IS: plain(lr, scale), LR: enlarging(lr, scale), ORIGINAL: original}
                detected |= {column: enlarging(picture, 1) for column, picture in pictures.items()}
                answers = {}
                for column in COLUMNS:
                    answers[column], false = answers_of(words, detected[column])
                    result.answers[(scale, kind), column].extend(answers[column])
                    result.false[(scale, kind), column] += false
                if scale == SHOWN_SCALE and name in SHOWN:
                    pictures |= {LR: nearest(lr, scale), ORIGINAL: hr}
                    drawn[kind].append(row_of(words, pictures, answers))
            progress.update()
    return result, [*drawn[CLEAN], *drawn[DAMAGED]]


def row_of(
    words: Sequence[Word], pictures: dict[str, np.ndarray], answers: dict[str, list[Answer]]
) -> np.ndarray:
    """A row of docs/detection_words.png: the word nearest to `SHOWN_HEIGHT`, shown and read."""
    index = min(range(len(words)), key=lambda i: abs(words[i].height - SHOWN_HEIGHT * SHOWN_SCALE))
    left, top, right, bottom = words[index].box
    height, width, _ = pictures[ORIGINAL].shape
    top = int(np.clip((top + bottom - ROWS) / 2, 0, height - ROWS))
    left = int(np.clip((left + right - COLUMNS_SHOWN) / 2, 0, width - COLUMNS_SHOWN))
    panels = []
    for column in COLUMNS[1:]:
        answer = answers[column][index]
        read = f"“{answer.text}”" if answer.found else "not found"
        panels.append((f"{column}: {read}", pictures[column][top : top + ROWS, left : left + COLUMNS_SHOWN]))
    return side_by_side(panels, width=1500)


def bins_of(words: Sequence[Word], scale: int) -> Iterator[tuple[str, np.ndarray]]:
    """Name and members (N,) of each range of cap heights in LR pixels that has words, and of all."""
    heights = np.array([word.height for word in words]) / scale
    for least, most in pairwise(BINS):
        members = (least <= heights) & (heights < most)
        name = (
            f"below {most}" if not least else f"{least} and more" if most == np.inf else f"{least} to {most}"
        )
        if members.any():
            yield name, members
    yield "all", np.ones(len(words), bool)


def recall(result: Result, kind: str) -> str:
    """Table of one kind of input: percent found / read, by scale and height."""
    rows = []
    for scale in SCALES:
        for name, members in bins_of(result.words, scale):
            cells = []
            for column in COLUMNS:
                answers = result.answers[(scale, kind), column]
                kept = [answer for answer, member in zip(answers, members, strict=True) if member]
                shares = [100 * np.mean([getattr(x, part) for x in kept]) for part in ("found", "read")]
                cells.append("{:.0f} / {:.0f}".format(*shares))
            rows.append([f"x{scale}, {name}", str(members.sum()), *cells])
    return markdown_table([f"{kind}, found / read", "words", *COLUMNS], rows)


def gains(result: Result, part: str) -> str:
    """Table of the words that only the first or only the second of two ways has found or read (`part`)."""
    pairs = [(WDSR, BICUBIC), (PHOTO, BICUBIC), (WDSR, LR), (PHOTO, LR)]
    rows = []
    for scale, kind in CASES:
        answers = {column: result.answers[(scale, kind), column] for column in COLUMNS}
        flags = {column: np.array([getattr(x, part) for x in answers[column]]) for column in COLUMNS}
        cells = [f"+{(flags[a] & ~flags[b]).sum()} -{(flags[b] & ~flags[a]).sum()}" for a, b in pairs]
        rows.append([f"x{scale}, {kind}", *cells])
    return markdown_table([f"words {part}", *(f"{a} over {b}" for a, b in pairs)], rows)


def false_boxes(result: Result) -> str:
    """Table of the boxes that are at no word."""
    rows = [
        [f"x{scale}, {kind}", *(str(result.false[(scale, kind), column]) for column in COLUMNS)]
        for scale, kind in CASES
    ]
    return markdown_table(["boxes at no word", *COLUMNS], rows)


def plot(result: Result) -> Figure:
    """Recall by cap height: found and read, clean and damaged, a column a scale."""
    figure = Figure(figsize=(10, 11), layout="constrained")
    panels = figure.subplots(4, len(SCALES), sharey=True)
    kinds = [(kind, part) for kind in (CLEAN, DAMAGED) for part in ("found", "read")]
    for row, (kind, part) in zip(panels, kinds, strict=True):
        for axes, scale in zip(row, SCALES, strict=True):
            *ranges, _ = bins_of(result.words, scale)
            for column in COLUMNS:
                flags = np.array([getattr(x, part) for x in result.answers[(scale, kind), column]])
                shares = [100 * flags[members].mean() for _, members in ranges]
                style = {AS_IT_IS: ":", LR: "--", ORIGINAL: "--"}.get(column, "-")
                colour = "black" if column == ORIGINAL else None
                axes.plot(range(len(ranges)), shares, style, marker="o", color=colour, label=column)
            axes.set_xticks(range(len(ranges)), [name.replace(" and more", "+") for name, _ in ranges])
            axes.set(title=f"x{scale}, {kind}", ylabel=f"% {part}", ylim=(-3, 103))
            axes.grid(alpha=0.3)
    for axes in panels[-1]:
        axes.set_xlabel("cap height, LR pixels")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=len(COLUMNS))
    return figure


def main() -> None:
    """Measures, prints the tables and draws."""
    parser = argparse.ArgumentParser(prog="python -m examples.detection", description=__doc__.splitlines()[0])
    parser.parse_args()
    enable_compilation_cache()
    start = monotonic()
    result, rows = measure()
    seconds = monotonic() - start
    tables = [recall(result, CLEAN), recall(result, DAMAGED), gains(result, "found"), gains(result, "read")]
    for table in [*tables, false_boxes(result)]:
        print(table, end="\n\n")
    versions = [f"{name} {version(name)}" for name in ("rapidocr-onnxruntime", "onnxruntime")]
    versions.append(f"wdsr_jax {wdsr_jax.__version__}")
    print(f"{len(result.words)} words, {seconds:.0f} s; {', '.join(versions)}")
    plot(result).savefig(DOCS / "detection.png", dpi=90)
    write_image(DOCS / "detection_words.png", np.concatenate(rows))


if __name__ == "__main__":
    run_command(main)
