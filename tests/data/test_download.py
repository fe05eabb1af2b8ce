"""fetch against servers that cut the connection, know no ranges, refuse, or fall silent."""

import http.server
import random
import re
import time

import pytest

from wdsr_jax.data import download
from wdsr_jax.errors import UserError

CONTENT = random.Random(0).randbytes(300_000)


def serve_script(serve, script, ranges=True):
    """A server whose answer to the n-th request follows `script[n]`; the last one is repeated.

    An answer is the HTTP status of an error, or the number of bytes to send before the connection is cut
    (None: all), or "silent". Returns the address and the Range headers that came.
    """
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            answer = script[min(len(asked), len(script) - 1)]
            asked.append(self.headers["Range"])
            start = 0
            if isinstance(answer, int) and 400 <= answer < 600:
                return self.send_error(answer)
            if ranges and asked[-1]:
                start = int(re.fullmatch(r"bytes=(\d+)-", asked[-1])[1])
                self.send_response(206)
            else:
                self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT) - start))
            self.end_headers()
            if answer == "silent":
                self.wfile.write(CONTENT[start : start + 1000])
                self.wfile.flush()
                time.sleep(1)
            else:
                self.wfile.write(CONTENT[start:][:answer])
            self.close_connection = True

        def log_message(self, *args):
            pass

    return serve(Handler) + "/file.zip", asked


@pytest.fixture(autouse=True)
def small_and_quick(monkeypatch):
    monkeypatch.setattr(download, "PAUSE", 0)
    monkeypatch.setattr(download, "CHUNK", 100)


@pytest.mark.parametrize(
    ("script", "asked"),
    [
        ([None], [None]),
        ([1000, 2000, None], [None, "bytes=1000-", "bytes=3000-"]),
        ([1000, 0, 0, 700, 0, 0, None], [None, *["bytes=1000-"] * 3, *["bytes=1700-"] * 3]),
        ([1000, 503, None], [None, "bytes=1000-", "bytes=1000-"]),
    ],
)
def test_goes_on_where_it_stopped(tmp_path, serve, script, asked):
    url, came = serve_script(serve, script)
    download.fetch(url, tmp_path / "file.zip", len(CONTENT))
    assert (tmp_path / "file.zip").read_bytes() == CONTENT
    assert came == asked
    assert [path.name for path in tmp_path.iterdir()] == ["file.zip"]


def test_goes_on_in_a_later_run(tmp_path, serve):
    url, _ = serve_script(serve, [1000, 0])
    with pytest.raises(UserError, match=r"lost; 1000 of 300000 bytes"):
        download.fetch(url, tmp_path / "file.zip", len(CONTENT))
    assert [path.name for path in tmp_path.iterdir()] == ["file.zip.part"]
    url, came = serve_script(serve, [None])
    download.fetch(url, tmp_path / "file.zip", len(CONTENT))
    assert (tmp_path / "file.zip").read_bytes() == CONTENT
    assert came == ["bytes=1000-"]


def test_server_without_ranges_starts_again(tmp_path, serve):
    url, _ = serve_script(serve, [100_000, 200_000, None], ranges=False)
    download.fetch(url, tmp_path / "file.zip", len(CONTENT))
    assert (tmp_path / "file.zip").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("script", "requests", "message"),
    [
        ([404], 1, r"refused by the server \(HTTP 404 Not Found\)"),
        ([1000, 404], 2, r"refused by the server \(HTTP 404 Not Found\)"),
        ([500], 3, r"HTTP 500 Internal Server Error; 0 of 300000 bytes"),
        (["silent", 0], 4, r"1000 of 300000 bytes"),
    ],
)
def test_gives_up(tmp_path, serve, monkeypatch, script, requests, message):
    monkeypatch.setattr(download, "TIMEOUT", (1, 0.2))
    url, came = serve_script(serve, script)
    with pytest.raises(UserError, match=message) as caught:
        download.fetch(url, tmp_path / "file.zip", len(CONTENT))
    assert str(caught.value).startswith(url + ": ")
    assert len(came) == requests
    assert not (tmp_path / "file.zip").exists()


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/a.zip", "http://no.such.host.invalid/a.zip"])
def test_unreachable(tmp_path, url):
    with pytest.raises(
        UserError, match=rf"{url}: cannot be downloaded \((?!.*HTTPConnection)[^()]+; 0 of 5 bytes are here\)"
    ):
        download.fetch(url, tmp_path / "a.zip", 5)
    assert not list(tmp_path.iterdir())
