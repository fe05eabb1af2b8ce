"""The page of before and after: what it holds, names, sizes, failures; and dragging in a browser (slow)."""

import base64
import html
import io
import resource
import weakref
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from skimage import data

from wdsr_jax.errors import UserError
from wdsr_jax.image.resize import imresize
from wdsr_jax.photo import compare
from wdsr_jax.photo.compare import comparison_page

PHOTO = data.chelsea()[:180, 100:340]  # uint8 (180, 240, 3)


def enlarged(image: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS))


def write_page(path, *images):
    with comparison_page(path) as add:
        for image in images:
            add(*image)
    return path


class Page(HTMLParser):
    """The elements of a page: `images` of each figure by class, `urls`, `text`, `inputs`."""

    def __init__(self, path):
        super().__init__()
        self.figures, self.urls, self.text, self.inputs, self.tags = [], [], "", [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append(tag)
        if tag == "figure":
            self.figures.append({})
        if tag == "img":
            kind, encoded = attributes["src"].split(";base64,")
            image = Image.open(io.BytesIO(base64.b64decode(encoded)))
            name = attributes.get("class", "after").removeprefix("before ")
            pixels = np.asarray(image.convert("RGB")).astype(int)
            self.figures[-1][name] = SimpleNamespace(
                kind=kind, pixels=pixels, info=image.info, alt=attributes["alt"]
            )
        if tag == "input":
            self.inputs.append(attributes)
        self.urls += [
            attributes[key] for key in ("src", "href", "action", "data", "srcset") if key in attributes
        ]

    def handle_data(self, text):
        self.text += text


def decibel(a, b) -> float:
    return 10 * np.log10(255**2 / max(1e-9, np.mean((a.astype(float) - b) ** 2)))


def test_the_page_holds_the_images_and_needs_nothing_else(tmp_path):
    sr = enlarged(PHOTO, 720, 960)
    page = Page(write_page(tmp_path / "page.html", ("cat.png", PHOTO, sr), ("dog.png", PHOTO, sr)))
    assert len(page.figures) == 2
    for figure in page.figures:
        np.testing.assert_array_equal(figure["nearest"].pixels, PHOTO)
        assert figure["after"].pixels.shape == figure["bicubic"].pixels.shape == sr.shape
        assert decibel(figure["after"].pixels, sr) > 42
        assert decibel(figure["bicubic"].pixels, imresize(PHOTO, 4)) > 42
        for name, kind in (("nearest", "png"), ("bicubic", "avif"), ("after", "avif")):
            assert figure[name].kind == f"data:image/{kind}"
    assert all(url.startswith("data:") for url in page.urls)
    assert "link" not in page.tags
    text = (tmp_path / "page.html").read_text()
    assert "http:" not in text
    assert "https:" not in text
    assert "url(" not in text
    assert "@import" not in text
    assert "240x180 → 960x720" in page.text
    assert (tmp_path / "page.html").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("name", ["<script>alert(1)</script>.png", "\"'&amp; $name ${after}.png", "雪 é.png"])
def test_names_are_text(tmp_path, name):
    page = Page(write_page(tmp_path / "page.html", (name, PHOTO, PHOTO)))
    assert page.tags.count("script") == 1
    assert name in page.text
    (entry,) = page.inputs
    assert entry["type"] == "range"
    assert name in entry["aria-label"]
    assert all(name in image.alt for image in page.figures[0].values())


def test_the_method_is_text(tmp_path):
    with comparison_page(tmp_path / "page.html", "<b>EDSR") as add:
        add("a", PHOTO, PHOTO)
    page = Page(tmp_path / "page.html")
    assert "<b>EDSR" in page.text
    assert "b" not in page.tags


@pytest.mark.parametrize("shape", [(612, 816), (97, 1000), (180, 240), (45, 60), (1, 1), (333, 777)])
def test_any_ratio(tmp_path, shape):
    sr = enlarged(PHOTO, *shape)
    (figure,) = Page(write_page(tmp_path / "page.html", ("a", PHOTO, sr))).figures
    assert figure["after"].pixels.shape == figure["bicubic"].pixels.shape == sr.shape
    np.testing.assert_array_equal(figure["nearest"].pixels, PHOTO)


@pytest.mark.parametrize("lr_shape, sr_shape", [((1, 1), (4, 4)), ((1, 30), (3, 90)), ((500, 1), (2000, 4))])
def test_thin_images(tmp_path, lr_shape, sr_shape):
    lr, sr = enlarged(PHOTO, *lr_shape), enlarged(PHOTO, *sr_shape)
    (figure,) = Page(write_page(tmp_path / "page.html", ("a", lr, sr))).figures
    assert figure["after"].pixels.shape == sr.shape


@pytest.mark.parametrize("shape", [(720, 960), (612, 816), (500, 1001)])
def test_of_large_images_the_same_centre_is_shown(tmp_path, monkeypatch, shape):
    monkeypatch.setattr(compare, "MOST_PIXELS", 40_000)
    sr = enlarged(PHOTO, *shape)
    page = Page(write_page(tmp_path / "page.html", ("a", PHOTO, sr)))
    (figure,) = page.figures
    nearest, bicubic, after = (figure[name].pixels for name in ("nearest", "bicubic", "after"))
    height, width, _ = after.shape
    assert 30_000 < height * width <= 41_000
    assert f"its centre, {width}x{height}" in page.text
    # The three show the same: the parts are found again in the whole images where they should be.
    top, left = (180 - nearest.shape[0]) // 2, (240 - nearest.shape[1]) // 2
    np.testing.assert_array_equal(nearest, PHOTO[top:, left:][: nearest.shape[0], : nearest.shape[1]])
    y, x = round(top * shape[0] / 180), round(left * shape[1] / 240)
    assert decibel(after, sr[y : y + height, x : x + width]) > 40
    whole = np.asarray(Image.fromarray(PHOTO).resize(shape[::-1], Image.Resampling.BICUBIC))
    assert decibel(bicubic, whole[y : y + height, x : x + width]) > 40


def test_profiles_are_kept(tmp_path):
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    (figure,) = Page(write_page(tmp_path / "page.html", ("a", PHOTO, PHOTO, profile))).figures
    assert {name: image.info.get("icc_profile") for name, image in figure.items()} == dict.fromkeys(
        figure, profile
    )


def test_images_are_written_as_they_come(tmp_path):
    with comparison_page(tmp_path / "page.html") as add:
        references, sizes = [], []
        for i in range(4):
            lr = PHOTO.copy()
            sr = enlarged(lr, 360, 480).copy()
            references += [weakref.ref(lr), weakref.ref(sr)]
            add(f"{i}.png", lr, sr)
            del lr, sr
            assert all(reference() is None for reference in references)
            (temporary,) = tmp_path.iterdir()  # beside the page, which is not there yet
            sizes.append(temporary.stat().st_size)
    assert sizes == sorted(set(sizes))
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_a_page_has_an_end(tmp_path, monkeypatch):
    monkeypatch.setattr(compare, "MOST_BYTES", 100_000)
    page = Page(write_page(tmp_path / "page.html", *[(f"{i}.png", PHOTO, PHOTO) for i in range(5)]))
    assert 1 <= len(page.figures) < 5
    assert f"{5 - len(page.figures)} more" in page.text


def test_without_images_no_page(tmp_path):
    (tmp_path / "page.html").write_text("before")
    write_page(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text() == "before"


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), FileNotFoundError(2, "mine")])
def test_after_an_exception_the_old_page_stays(tmp_path, error):
    (tmp_path / "page.html").write_text("before")
    with pytest.raises(type(error)) as raised, comparison_page(tmp_path / "page.html") as add:
        add("a", PHOTO, PHOTO)
        raise error
    assert raised.value is error
    assert (tmp_path / "page.html").read_text() == "before"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_page_that_cannot_be_written_is_named(tmp_path):
    for path in (tmp_path / "none/page.html", tmp_path):
        with pytest.raises(UserError, match="cannot be written"):
            write_page(path, ("a", PHOTO, PHOTO))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(UserError, match=r"page\.html: cannot be written"):
            write_page(tmp_path / "page.html", ("a", PHOTO, PHOTO))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("width, touch", [(1280, False), (375, True)])
def test_the_divider_is_dragged_in_a_browser(tmp_path, browser, width, touch):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    sr = enlarged(PHOTO, 540, 720)
    path = write_page(tmp_path / "a & b.html", ("cat.png", PHOTO, sr), ("<i>.png", PHOTO, sr))
    metrics = {"width": width, "height": 500 if touch else 900, "deviceScaleFactor": 1, "mobile": touch}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": touch})
    browser.get(path.as_uri())

    def state(index=0):
        """Share before, by the range and by what is painted; widths of the view, the page and the window."""
        return browser.execute_script(
            """const pair = document.querySelectorAll(".pair")[arguments[0]];
            const view = pair.querySelector(".view"), before = pair.querySelector(".bicubic");
            const cut = parseFloat(getComputedStyle(before).clipPath.split("- ")[1]);
            const page = document.documentElement.scrollWidth;
            return [pair.querySelector("input").value / 100, (cut - view.scrollLeft) / view.clientWidth,
                    view.clientWidth, page, innerWidth, scrollY];""",
            index,
        )

    def swipe(x, y, to_x, to_y):
        if not touch:
            chain = ActionChains(browser, duration=20).w3c_actions
            chain.pointer_action.move_to_location(round(x), round(y)).pointer_down()
            for i in range(1, 11):
                chain.pointer_action.move_to_location(
                    round(x + (to_x - x) * i / 10), round(y + (to_y - y) * i / 10)
                )
            chain.pointer_action.pointer_up()
            chain.perform()
            return
        for kind, share in [("Start", 0), *[("Move", i / 10) for i in range(1, 11)], ("End", 1)]:
            point = {"x": x + (to_x - x) * share, "y": y + (to_y - y) * share}
            points = [] if kind == "End" else [point]
            browser.execute_cdp_cmd(
                "Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": points}
            )

    share, painted, view, page, window, _ = state()
    assert share == 0.5
    assert page <= window == width  # nothing sticks out to the side
    assert view == min(720, page - 32)
    box = browser.find_elements("class name", "view")[0].rect
    y = box["y"] + 100
    swipe(box["x"] + 0.5 * view, y, box["x"] + 0.2 * view, y + 5)
    share, painted, *_ = state()
    assert share == pytest.approx(0.2, abs=0.02)
    assert painted == pytest.approx(0.2, abs=0.02)
    assert state(1)[0] == 0.5  # the other stays
    if touch:  # a finger that goes up scrolls the page and leaves the divider where it is
        swipe(box["x"] + 0.7 * view, y + 100, box["x"] + 0.7 * view, y - 100)
        assert state()[0] == pytest.approx(0.2, abs=0.02)
        assert state()[5] > 50
    entry = browser.find_elements("css selector", ".pair input")[0]
    browser.execute_script("arguments[0].focus()", entry)
    before = state()[0]
    ActionChains(browser).send_keys(Keys.ARROW_RIGHT * 3).perform()
    assert state()[:2] == pytest.approx([before + 0.03] * 2)

    painted_of = "return getComputedStyle(document.querySelector(arguments[0])).visibility"
    browser.execute_script("scrollTo(0, 0)")
    browser.find_element("css selector", "button[data-before=nearest]").click()
    assert browser.execute_script(painted_of, ".bicubic") == "hidden"
    assert browser.execute_script(painted_of, ".nearest") == "visible"
    browser.find_element("css selector", "button[data-zoom='4']").click()
    assert state()[:2] == pytest.approx([before + 0.03] * 2)  # of the view, which shows a part
    assert browser.execute_script("return document.querySelector('.stage').clientWidth") == 4 * 720
    assert browser.execute_script("return document.querySelector('.view').scrollLeft") > 500
    assert not [line for line in browser.get_log("browser") if line["level"] == "SEVERE"]
    assert html.unescape(browser.find_elements("tag name", "figcaption")[1].text).startswith("<i>.png")
