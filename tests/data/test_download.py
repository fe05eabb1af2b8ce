"""fetch against servers that cut the connection, know no ranges, refuse, fall silent, drip, or lie."""

import contextlib
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
                self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
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


def serve_raw(serve, answer):
    """A server that writes the bytes that `answer(range)` yields, headers and all."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            with contextlib.suppress(OSError):  # the client has gone
                for data in answer(self.headers["Range"]):
                    self.wfile.write(data)
                    self.wfile.flush()
            self.close_connection = True

        def log_message(self, *args):
            pass

    return serve(Handler) + "/file.zip"


def answer(*headers, status="200 OK", body=CONTENT):
    return "\r\n".join([f"HTTP/1.0 {status}", *headers, "", ""]).encode() + body


SIZE = len(CONTENT)
LENGTH = f"Content-Length: {SIZE}"
LIES = {
    "length in words": (answer("Content-Length: many"), "length that is no number, 'many'"),
    "negative length": (answer("Content-Length: -5"), "length that is no number, '-5'"),
    "length with colours": (answer("Content-Length: \x1b[31m7"), r"no number, '\\x1b[31m7'"),
    "length twice": (answer(LENGTH, "Content-Length: 7"), "unmatching values"),
    "another length": (
        answer("Content-Length: 7", body=b"7 bytes"),
        "the server has 7 bytes, published were",
    ),
    "more than published": (answer(body=CONTENT + b"more"), f"more than the {SIZE} bytes"),
    "a part without a place": (answer(LENGTH, status="206 Partial"), "another part (none) than from byte 0"),
    "a part from elsewhere": (
        answer("Content-Length: 5", f"Content-Range: bytes 5-9/{SIZE}", status="206 Partial", body=b"fives"),
        f"another part (bytes 5-9/{SIZE}) than from byte 0",
    ),
    "no file": (answer(status="204 No Content", body=b""), "HTTP 204, which is no file"),
    "a reason in two lines": (answer(status="404 No\x1b[2J"), r"refused by the server (HTTP 404 No\x1b[2J)"),
}


@pytest.mark.parametrize("lie", LIES)
def test_what_a_server_says_is_checked(tmp_path, serve, lie):
    data, message = LIES[lie]
    url = serve_raw(serve, lambda _: [data])
    with pytest.raises(UserError) as caught:
        download.fetch(url, tmp_path / "file.zip", SIZE)
    assert str(caught.value).startswith(f"{url}: ") and message in str(caught.value)
    assert "\n" not in str(caught.value) and "\x1b" not in str(caught.value)
    assert not list(tmp_path.iterdir())  # nothing of it is kept


def test_what_is_longer_than_the_file_is_fetched_anew(tmp_path, serve):
    (tmp_path / "file.zip.part").write_bytes(CONTENT + b"more")
    url, came = serve_script(serve, [None])
    download.fetch(url, tmp_path / "file.zip", SIZE)
    assert (tmp_path / "file.zip").read_bytes() == CONTENT and came == [None]


def test_a_part_from_elsewhere_is_not_appended(tmp_path, serve):
    (tmp_path / "file.zip.part").write_bytes(CONTENT[:1000])
    header = f"Content-Range: bytes 0-{SIZE - 1}/{SIZE}"
    url = serve_raw(serve, lambda _: [answer(header, status="206 Partial Content")])
    with pytest.raises(UserError, match=rf"another part \(bytes 0-{SIZE - 1}/{SIZE}\) than from byte 1000"):
        download.fetch(url, tmp_path / "file.zip", SIZE)
    assert (tmp_path / "file.zip.part").read_bytes() == CONTENT[:1000]


@pytest.mark.parametrize("drips", ["the body", "the headers"])
def test_a_server_that_drips_is_given_up(tmp_path, serve, monkeypatch, drips):
    """A byte every 10 ms, which resets the time-out for silence each time."""
    monkeypatch.setattr(download, "SLOWEST", 0.3)
    whole = answer(LENGTH)
    start = whole.index(CONTENT) if drips == "the body" else 12

    def drip(_):
        yield whole[:start]
        for i in range(start, len(whole)):
            time.sleep(0.01)
            yield whole[i : i + 1]

    url, began = serve_raw(serve, drip), time.monotonic()
    with pytest.raises(UserError, match=rf"less than 1.1 kB/s; 0 of {SIZE} bytes are here"):
        download.fetch(url, tmp_path / "file.zip", SIZE)
    assert time.monotonic() - began < 10
    assert not (tmp_path / "file.zip").exists()
