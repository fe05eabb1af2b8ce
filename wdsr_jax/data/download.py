"""Fetches a large file over HTTP: resumes where it stopped, shows progress, gives up on a silent server."""

import os
import time
from pathlib import Path

import requests
from absl import logging
from tqdm import tqdm

from wdsr_jax.errors import UserError

TIMEOUT = (5, 60)  # seconds to connect, seconds without a byte
FRUITLESS = 3  # attempts in a row that bring no new byte before giving up
PAUSE = 1  # seconds after the first of them, doubled each time
CHUNK = 1 << 16  # bytes; less than this is lost with a connection
LOST = "the connection was lost"


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
        UserError: the server cannot be reached, refuses, or has a file of another length.
        OSError: the file cannot be written.
    """
    path = Path(path)
    part = path.with_name(path.name + ".part")
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
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if 400 <= response.status_code < 500:  # asking again will not help
            raise UserError(f"{url}: refused by the server (HTTP {response.status_code} {response.reason})")
        response.raise_for_status()
        resumed = response.status_code == requests.codes.partial_content
        start = have if resumed else 0  # a server that knows no ranges starts from the beginning
        coming = response.headers.get("Content-Length")
        if coming and start + int(coming) != size:  # a page that asks to log in, say: nothing to append
            raise UserError(f"{url}: the server has {start + int(coming)} bytes, published were {size}")
        bar.n = start
        with open(part, "ab" if resumed else "wb") as file:
            for chunk in response.iter_content(CHUNK):
                file.write(chunk)
                bar.update(len(chunk))


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
