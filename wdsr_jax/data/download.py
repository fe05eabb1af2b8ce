"""Fetches a large file over HTTP: resumes where it stopped, gives up on a server that is silent or slow.

What a server says is checked: a body of another length than it said, or than is published, or one that starts
elsewhere than asked, is not kept.
"""

import os
import queue
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
from absl import logging
from tqdm import tqdm

from wdsr_jax.errors import UserError
from wdsr_jax.system.text import printable

TIMEOUT = (5, 60)  # seconds to connect, seconds without a byte
FRUITLESS = 3  # attempts in a row that bring no new byte before giving up
PAUSE = 1  # seconds after the first of them, doubled each time
CHUNK = 1 << 16  # bytes; less than this is lost with a connection
SLOWEST = 60  # seconds that the headers, or a chunk, may take: 1.1 kB/s
LOST = "the connection was lost"
TOO_SLOW = "less than 1.1 kB/s"


def fetch(url: str, path: str | os.PathLike, size: int) -> None:
    """Downloads `url` to `path`, which appears only when all of its `size` bytes are there.

    What has arrived is kept in `path`.part: a lost connection, and a later run after an interruption, go on
    from there. A progress bar in bytes is shown on a terminal, elsewhere one line is logged. The contents
    are not checked: that needs a checksum, and the caller.

    Args:
        url: an http or https address; proxies are taken from the environment (HTTPS_PROXY).
        path: the file to make, in a folder that exists.
        size: the length of the file in bytes.

    Raises:
        UserError: the server cannot be reached, refuses, is too slow, or has a file of another length.
        OSError: the file cannot be written.
    """
    path = Path(path)
    part = path.with_name(path.name + ".part")
    if _size(part) > size:  # of another file
        part.unlink()
    logging.info("Downloading %s (%.2f GB) to %s", url, size / 1e9, path)
    # disable=None: no bar where stderr is no terminal, so that a log does not fill with thousands of them.
    with tqdm(
        desc=path.name, total=size, initial=_size(part), unit="B", unit_scale=True, disable=None
    ) as bar:
        fruitless = 0
        while (before := _size(part)) < size:
            try:
                _append(url, part, size, bar)
                problem = LOST  # unless the file is complete
            except requests.RequestException as error:
                problem = _reason(error)
            except queue.Empty:
                problem = TOO_SLOW
            fruitless = 0 if _size(part) > before else fruitless + 1
            if fruitless == FRUITLESS:
                raise UserError(
                    f"{url}: cannot be downloaded ({problem}; {_size(part)} of {size} bytes are here)"
                )
            if fruitless:
                time.sleep(PAUSE * 2 ** (fruitless - 1))
    os.replace(part, path)


def _append(url: str, part: Path, size: int, bar: tqdm) -> None:
    """Asks for the bytes that `part` lacks and writes them behind those it has."""
    have = _size(part)
    # identity: a compressed transfer would make ranges meaningless.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with _answer(url, headers) as (response, chunks):
        if 400 <= response.status_code < 500:  # asking again will not help
            reason = printable(f"HTTP {response.status_code} {response.reason}")
            raise UserError(f"{url}: refused by the server ({reason})")
        response.raise_for_status()
        start = _start(url, response, have)
        coming = response.headers.get("Content-Length")
        if coming is not None and not re.fullmatch("[0-9]{1,18}", coming):
            raise UserError(f"{url}: the server gives a length that is no number, {printable(coming)[:40]!r}")
        if coming and start + int(coming) != size:  # a page that asks to log in, say: nothing to append
            raise UserError(f"{url}: the server has {start + int(coming)} bytes, published were {size}")
        bar.n = start
        with open(part, "ab" if start else "wb") as file:
            for chunk in chunks:
                start += len(chunk)
                if start > size:
                    part.unlink()
                    raise UserError(f"{url}: the server sends more than the {size} bytes that were published")
                file.write(chunk)
                bar.update(len(chunk))


def _start(url: str, response: requests.Response, have: int) -> int:
    """The place in the file where an answer's body starts.

    Raises:
        UserError: the server sends another part than it was asked for, or none.
    """
    if response.status_code == requests.codes.ok:
        return 0  # a server that knows no ranges starts from the beginning
    if response.status_code != requests.codes.partial_content:
        raise UserError(f"{url}: the server answers HTTP {response.status_code}, which is no file")
    place = response.headers.get("Content-Range", "none")
    if not re.match(rf"bytes {have}-[0-9]", place):
        raise UserError(
            f"{url}: the server sends another part ({printable(place)[:40]}) than from byte {have}"
        )
    return have


@contextmanager
def _answer(url: str, headers: Mapping[str, str]) -> Iterator[tuple[requests.Response, Iterator[bytes]]]:
    """The response of a server, and its body in chunks of `CHUNK` as they arrive.

    A thread of its own waits for the server: a byte now and then would keep the library waiting for ever.

    Raises:
        queue.Empty: the headers or a chunk took longer than `SLOWEST`.
        requests.RequestException: the connection failed.
    """
    arrived: queue.Queue = queue.Queue(maxsize=8)
    ended = threading.Event()

    def receive() -> None:
        try:
            with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
                arrived.put(response)
                for chunk in response.iter_content(CHUNK):
                    arrived.put(chunk)
                    if ended.is_set():
                        return
            arrived.put(None)
        except Exception as error:
            arrived.put(error)

    def next_item() -> Any:
        item = arrived.get(timeout=SLOWEST)
        if isinstance(item, Exception):
            raise item
        return item

    threading.Thread(target=receive, daemon=True).start()
    try:
        response = next_item()
        yield response, iter(next_item, None)
    finally:
        ended.set()
        while not arrived.empty():  # the thread may wait for room
            arrived.get_nowait()


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _reason(error: requests.RequestException) -> str:
    """The innermost cause: requests wraps "Connection refused" in four layers of Python objects."""
    if error.response is not None:
        return f"HTTP {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.Timeout):
        return "no answer"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return LOST
    cause: BaseException = error
    while inner := cause.__cause__ or cause.__context__:
        cause = inner
    return getattr(cause, "strerror", None) or str(cause)
