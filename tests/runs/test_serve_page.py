"""The local page in a browser: pictures are dropped, compared and downloaded (slow)."""

import re
import sys
import time
import zipfile

import pytest

import wdsr_jax
from tests.photo.samples import photo_file
from wdsr_jax.image.files import read_image


@pytest.fixture
def address(start_process, tmp_path):
    """Of the page of a server that runs as a process of its own, with the weights that ship."""
    out = tmp_path / "out.txt"
    command = [sys.executable, "-m", "wdsr_jax.upscale", "--serve", "--scale=2"]
    start_process(command, out, TMPDIR=str(tmp_path))  # which is killed, so that its files stay there
    until(lambda: "\n" in out.read_text())
    return re.match(r"open (http://127\.0\.0\.1:\d+/\S+/) in a browser", out.read_text())[1]


def until(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.1)
    return value


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 375])
def test_pictures_are_dropped_compared_and_downloaded(browser, address, tmp_path, width):
    paths = [tmp_path / "<i>first.png", tmp_path / "second.png"]
    pixels = [photo_file(path, 40, 60) for path in paths]
    (tmp_path / "notes.txt").write_text("no picture")
    folder = tmp_path / "down"
    folder.mkdir()
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    down = {"behavior": "allow", "downloadPath": str(folder)}
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", down)
    browser.get(address)

    def drop(*files):
        box = browser.find_element("id", "drop").rect
        data = {"items": [], "files": [str(file) for file in files], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            event = {"type": kind, "x": box["x"] + 60, "y": box["y"] + 30, "data": data}
            browser.execute_cdp_cmd("Input.dispatchDragEvent", event)

    def texts(selector):
        return [element.text for element in browser.find_elements("css selector", selector)]

    def downloaded(button):
        """The file that a click on the button saves, once it is whole; Chromium has no < in names."""
        before = set(folder.iterdir())
        browser.execute_script("arguments[0].click()", button)
        done = until(lambda: [p for p in set(folder.iterdir()) - before if p.suffix in (".png", ".zip")])
        return done[0]

    drop(*paths)
    until(lambda: texts("#count") == ["2 of 2 done"])
    assert texts(".name") == [path.name for path in paths]  # as text, not as markup
    assert texts(".sizes") == ["60 \u00d7 40 → 120 \u00d7 80"] * 2
    choices = [re.fullmatch(r"noise of [\d.]+ levels, so by wdsr-a-16-photo-x2", c) for c in texts(".choice")]
    assert len(choices) == 2 and all(choices)
    assert browser.title == "2 of 2 done: Enlarge photographs"
    page = "return [document.documentElement.scrollWidth, innerWidth]"
    assert browser.execute_script(page)[0] <= browser.execute_script(page)[1] == width

    # Before and after: both pictures are there, and the divider follows the keys and the pointer.
    pair = browser.find_elements("css selector", ".pair")[1]
    shown = "return [...arguments[0].querySelectorAll('img')].map(i => [i.complete, i.naturalWidth])"
    until(lambda: browser.execute_script(shown, pair) == [[True, 120], [True, 120], [True, 60]])
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", pair)
    box = browser.execute_script(
        "const b = arguments[0].getBoundingClientRect(); return [b.x, b.y, b.width]", pair
    )
    for kind, share in (
        ("mousePressed", 0.5),
        ("mouseMoved", 0.4),
        ("mouseMoved", 0.25),
        ("mouseReleased", 0.25),
    ):
        point = {
            "x": box[0] + share * box[2],
            "y": box[1] + 40,
            "button": "left",
            "buttons": 1,
            "clickCount": 1,
        }
        browser.execute_cdp_cmd("Input.dispatchMouseEvent", {"type": kind, **point})
    divider = """const pair = arguments[0];
        return [Number(pair.querySelector("input").value), pair.style.getPropertyValue("--split")];"""
    value, split = browser.execute_script(divider, pair)
    assert value == pytest.approx(25, abs=1) and float(split[:-1]) == pytest.approx(25, abs=1)
    key = {"key": "ArrowRight", "code": "ArrowRight", "windowsVirtualKeyCode": 39}
    browser.execute_cdp_cmd("Input.dispatchKeyEvent", {"type": "keyDown", **key})
    assert browser.execute_script(divider, pair)[0] == value + 1

    # The files are whole: those of the button, and those in the zip.
    network = wdsr_jax.load_pretrained("wdsr-a-16-photo-x2")  # which the page chooses for noise
    expected = [wdsr_jax.upscale(*network, image) for image in pixels]
    results = [path.stem + "_x2.png" for path in paths]
    buttons = browser.find_elements("css selector", ".download")
    for button, image in zip(buttons, expected, strict=True):
        difference = read_image(downloaded(button)).astype(int) - image
        assert abs(difference).max() <= 1  # the tests compile with fewer optimizations
    with zipfile.ZipFile(downloaded(browser.find_element("id", "all"))) as archive:
        assert archive.namelist() == results and archive.testzip() is None

    # One that is no picture says so; what is done survives a reload; a removal leaves the others.
    drop(tmp_path / "notes.txt")
    until(lambda: texts("#count") == ["2 of 3 done, 1 failed"])
    assert texts(".failed .status") == ["not an image"]
    browser.refresh()
    until(lambda: texts("#count") == ["2 of 2 done"])
    browser.find_elements("css selector", ".remove")[0].click()
    until(lambda: texts(".name") == [paths[1].name])
    browser.refresh()
    until(lambda: texts(".name") == [paths[1].name])
    severe = [line["message"] for line in browser.get_log("browser") if line["level"] == "SEVERE"]
    assert [message for message in severe if "name=notes.txt" not in message] == []  # the refusal is logged
