"""A page on this machine on which photographs are dropped: `python -m wdsr_jax.upscale --serve`.

The server listens on 127.0.0.1 alone. Every address below it starts with a key that is new for each run, so
that neither other pages in the browser nor other users of the machine reach it. The Host header must name
this machine, against DNS rebinding. Nothing that a client sends is used as the name of a file.
"""

import argparse
import copy
import json
import os
import re
import secrets
import shutil
import sys
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import parse_qs, quote, urlsplit

from absl import logging

from wdsr_jax.errors import UserError
from wdsr_jax.photo.choice import network_name
from wdsr_jax.photo.compare import read_page
from wdsr_jax.photo.formats import OUTPUT_FORMATS, format_of
from wdsr_jax.photo.network import load_network
from wdsr_jax.photo.queue import VIEWS, Picture, Queue
from wdsr_jax.system.files import path_errors
from wdsr_jax.weights.files import FAMILIES, list_pretrained, pretrained_for

DEFAULT_PORT = 8642
CHOSEN = "by the photograph"  # offered as a network: the command chooses one for each photograph
MOST_BYTES = 2**29  # of an upload
_PORTS_TRIED = 20  # from the default one on
_PATIENCE = 60  # seconds without a byte of a request, after which its connection ends
_BLOCK = 2**20
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_POLICY = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def serve(args: argparse.Namespace) -> None:
    """Prints the page's address and serves it until a signal ends the command.

    Args:
        args: see `command.parse_arguments`; `args.serve` is the port, 0 for the default or the next free one.

    Raises:
        UserError: the port is taken, or the model cannot be used.
    """
    if args.model and args.model not in FAMILIES:
        load_network(
            args.model, args.perceptual, args.engine, samples=False
        )  # a mistake in it is named at once, not for each picture
    with open_server(args) as server:
        print(f"open {server.address} in a browser on this machine; Ctrl-C ends the server", flush=True)
        server.serve_forever()


@contextmanager
def open_server(args: argparse.Namespace) -> Iterator["Server"]:
    """A server that is bound, and upscales what it is given; its files go when the block ends.

    Args:
        args: see `serve`.

    Raises:
        UserError: the port is taken.
    """
    with tempfile.TemporaryDirectory(prefix="wdsr_jax-", ignore_cleanup_errors=True) as folder:
        server = _bind(args, Path(folder))
        worker = threading.Thread(target=server.queue.run, daemon=True)
        worker.start()
        try:
            yield server
        finally:
            server.server_close()
            server.queue.close()
            worker.join(timeout=5)  # for the tile that is computed


def _bind(args: argparse.Namespace, folder: Path) -> "Server":
    ports = [args.serve] if args.serve else [*range(DEFAULT_PORT, DEFAULT_PORT + _PORTS_TRIED), 0]
    for port in ports[:-1]:
        try:
            return Server(port, args, folder)
        except OSError:
            continue
    with path_errors(f"--serve={ports[-1]}", "the port cannot be used", "choose another"):
        return Server(ports[-1], args, folder)


def choices(args: argparse.Namespace) -> dict[str, Any]:
    """What the page lets people choose.

    Args:
        args: see `command.parse_arguments`; what it names is chosen at first.

    Returns:
        `scales`: of the shipped networks, and that of `args`; `models`: for each scale the names, of which
        the first is the one that the command would take, or `CHOSEN`; `formats`; and `scale` and `format`,
        the first choices.
    """
    names = list_pretrained()
    shipped = {float(match[1]) for name in names if (match := re.search(r"-x(\d+)$", name))}
    models = {}
    for scale in sorted(shipped | {args.scale}):
        fitting = [name for name in names if name.endswith(f"-x{scale:g}")]
        has_choice = args.model is None and pretrained_for(scale, "photo")
        first = CHOSEN if has_choice else network_name(args.model, scale)
        models[f"{scale:g}"] = list(dict.fromkeys(name for name in (first, *fitting) if name))
    return {
        "models": models,
        "scales": list(models),
        "scale": f"{args.scale:g}",
        "formats": list(OUTPUT_FORMATS),
        "format": args.format or "",
        "mostBytes": MOST_BYTES,
    }


class Server(ThreadingHTTPServer):
    """The HTTP server and its queue.

    Attributes:
        queue: of photographs.
        args: of the command.
        folder: for files.
        key: the first part of every path.
        hosts: what the Host header may be.
        address: of the page.
    """

    daemon_threads = True

    def __init__(self, port: int, args: argparse.Namespace, folder: Path):
        """Binds the port, 0 for any that is free, on 127.0.0.1.

        Raises:
            OSError: it is taken.
        """
        super().__init__(("127.0.0.1", port), _Handler)
        self.queue, self.args, self.folder = Queue(), args, folder
        self.key = secrets.token_urlsafe(12)
        self.hosts = {f"{name}:{self.server_port}" for name in ("127.0.0.1", "localhost")}
        self.address = f"http://127.0.0.1:{self.server_port}/{self.key}/"
        self.page = read_page("serve.html")
        self.choices = choices(args)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Logs a fault in one line; clients may leave whenever they like."""
        error = sys.exception()
        if not isinstance(error, ConnectionError | TimeoutError):
            logging.warning("a request failed (%s: %s)", type(error).__name__, error)


class _Refusal(Exception):
    """A request that is answered by a status and one line."""

    def __init__(self, status: int, line: str):
        super().__init__(line)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    """Answers one connection.

    Below the key: `GET` the page, `GET state`, `POST pictures?name=&scale=&model=&format=` with the file as
    the body, `GET pictures/ID/VIEW` and `pictures/ID/result`, `DELETE pictures/ID`, `GET all.zip`.
    """

    server: Server  # type: ignore[assignment]
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "wdsr_jax", ""
    timeout = _PATIENCE
    error_message_format, error_content_type = "%(code)d %(message)s\n", "text/plain; charset=utf-8"

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def do_DELETE(self) -> None:
        self._answer(self._delete)

    def _answer(self, method: Any) -> None:
        length = self.headers.get("Content-Length", "0")
        self._unread = int(length) if re.fullmatch(r"\d{1,15}", length) else 0  # bytes of the body
        self._most_discarded = _BLOCK
        try:
            host, origin = self.headers.get("Host", ""), self.headers.get("Origin")
            if host not in self.server.hosts:
                raise _Refusal(421, "this server answers to 127.0.0.1 and localhost alone")
            if origin is not None and origin.removeprefix("http://") not in self.server.hosts:
                raise _Refusal(403, "another page may not use this server")
            url = urlsplit(self.path)
            key, slash, path = url.path.removeprefix("/").partition("/")
            if not secrets.compare_digest(key.encode(), self.server.key.encode()):
                raise _Refusal(403, "open the whole address that the command printed; it holds a key")
            self._most_discarded = MOST_BYTES
            if not slash:
                raise _Refusal(404, "the address that the command printed ends in a slash")
            method(path, {name: values[-1] for name, values in parse_qs(url.query).items()})
        except _Refusal as refusal:
            self._discard_body()
            self.close_connection = True
            self._send_json(refusal.status, json.dumps({"error": str(refusal)}))

    def _get(self, path: str, query: dict[str, str]) -> None:
        if path == "":
            return self._send_page()
        if path == "state":
            return self._send_json(200, self.server.queue.as_json())
        if path == "all.zip":
            return self._send_zip()
        picture, what = self._picture(path)
        if what == "result" and picture.state == "done":
            content_type = f"image/{format_of(picture.result)}"
            return self._send_file(picture.result, content_type, picture.result_name)
        if what in VIEWS and (picture.state == "done" or (what == "thumbnail" and picture.has_thumbnail)):
            return self._send_file(picture.view(what), VIEWS[what])
        if what == "result" or what in VIEWS:
            raise _Refusal(409, picture.error or f"{picture.name}: not done yet")
        raise _Refusal(404, "there is no such page")

    def _post(self, path: str, query: dict[str, str]) -> None:
        if path != "pictures":
            raise _Refusal(404, "there is no such page")
        args = self._arguments(query)
        if not self.headers.get("Content-Length", "").isdigit():
            raise _Refusal(411, "the request does not say how long it is")
        try:
            picture = Picture(query.get("name", ""), args, self.server.folder)
            if self._unread > MOST_BYTES:
                raise _Refusal(
                    413, f"{picture.name}: more than {MOST_BYTES // 2**20} MB; use the command line"
                )
            self._store(picture)
            self.server.queue.add(picture)
        except UserError as error:
            raise _Refusal(422, str(error)) from None
        self._send_json(201, json.dumps(picture.as_json()))

    def _delete(self, path: str, query: dict[str, str]) -> None:
        picture, what = self._picture(path)
        if what:
            raise _Refusal(404, "there is no such page")
        self.server.queue.remove(picture)
        self._send_json(200, "{}")

    def _discard_body(self) -> None:
        """Reads a body that nobody wants: with it unread, the answer might not arrive."""
        if self._unread <= self._most_discarded:
            with suppress(OSError):
                while self._unread and (block := self.rfile.read(min(self._unread, _BLOCK))):
                    self._unread -= len(block)

    def _picture(self, path: str) -> tuple[Picture, str]:
        """The photograph that a path names, and what of it."""
        pictures, _, rest = path.partition("/")
        identifier, _, what = rest.partition("/")
        if pictures != "pictures":
            raise _Refusal(404, "there is no such page")
        picture = self.server.queue.find(identifier)
        if picture is None:
            raise _Refusal(404, "there is no such picture; it may have been removed")
        return picture, what

    def _arguments(self, query: dict[str, str]) -> argparse.Namespace:
        """The command's arguments with what the page chose, which must be among what it was offered."""
        args, offered = copy.copy(self.server.args), self.server.choices
        scale = query.get("scale") or offered["scale"]
        output_format = query.get("format") or ""
        if scale not in offered["models"]:
            raise _Refusal(400, f"scale: one of {', '.join(offered['models'])}")
        models = offered["models"][scale]
        model = query.get("model") or "".join(models[:1])
        if model not in (models or [""]):
            raise _Refusal(400, f"model: one of {', '.join(models)}")
        if output_format not in ("", *OUTPUT_FORMATS):
            raise _Refusal(400, f"format: one of {', '.join(OUTPUT_FORMATS)}, or empty for that of the input")
        args.scale, args.format = float(scale), output_format or None
        if model not in models[:1]:  # the first is what the command line names, or chooses
            args.model, args.perceptual = model or None, None
        return args

    def _store(self, picture: Picture) -> None:
        """Writes the body of the request to the photograph's file, whole or not at all."""
        try:
            with path_errors(picture.name, "cannot be stored"), open(picture.upload, "xb") as file:
                while self._unread:
                    try:
                        block = self.rfile.read(min(self._unread, _BLOCK))
                    except OSError:  # nothing came for a minute, or the browser is gone
                        block = b""
                    if not block:
                        self._unread = 0
                        raise _Refusal(408, f"{picture.name}: only a part of it arrived; drop it again")
                    self._unread -= len(block)
                    file.write(block)
        except BaseException:
            picture.upload.unlink(missing_ok=True)
            raise

    # Answers.

    def end_headers(self) -> None:
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: what is upscaled is logged by the queue."""

    def _send(self, status: int, content_type: str, body: bytes, policy: str = "default-src 'none'") -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", policy)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def _send_json(self, status: int, text: str) -> None:
        self._send(status, "application/json", text.encode())

    def _send_page(self) -> None:
        nonce = secrets.token_urlsafe(12)
        offered = json.dumps(self.server.choices).replace("<", "\\u003c")
        page = self.server.page.replace("{{nonce}}", nonce).replace("{{choices}}", offered)
        self._send(200, "text/html; charset=utf-8", page.encode(), _POLICY.format(nonce=nonce))

    def _send_file(self, path: Path, content_type: str, name: str = "") -> None:
        """A file of the server's own; with a name to be saved under that, else to be shown."""
        with ExitStack() as stack:
            try:
                file = stack.enter_context(open(path, "rb"))
            except OSError:
                raise _Refusal(404, "there is no such picture; it may have been removed") from None
            self.send_response(200)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(os.fstat(file.fileno()).st_size))
            self.send_header("Content-Security-Policy", "default-src 'none'")
            if name:
                disposition = f"attachment; filename*=UTF-8''{quote(name, safe='')}"
                self.send_header("Content-Disposition", disposition)
            self.end_headers()
            self.connection.settimeout(None)  # a browser that asks where to save may wait long
            shutil.copyfileobj(file, self.wfile, _BLOCK)
            self.connection.settimeout(self.timeout)

    def _send_zip(self) -> None:
        """All results in one file, as they are, block by block: nobody knows its length before."""
        self.send_response(200)
        self.send_header("Content-Type", "application/zip")
        self.send_header("Content-Disposition", 'attachment; filename="enlarged.zip"')
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.connection.settimeout(None)
        taken: set[str] = set()
        chunks = _Chunks(self.wfile)
        with zipfile.ZipFile(cast(BinaryIO, chunks), "w", zipfile.ZIP_STORED) as archive:
            for picture in self.server.queue.pictures():
                if picture.state == "done" and picture.result.exists():
                    archive.write(picture.result, _free_name(picture.result_name, taken))
        chunks.end()
        self.connection.settimeout(self.timeout)


def _free_name(name: str, taken: set[str]) -> str:
    """The name, or `NAME (2)` where it is taken, which is taken then."""
    path, free, number = Path(name), name, 1
    while free.lower() in taken:
        number += 1
        free = f"{path.stem} ({number}){path.suffix}"
    taken.add(free.lower())
    return free


class _Chunks:
    """A file to write to, whose blocks become chunks of HTTP/1.1."""

    def __init__(self, file: Any):
        self._file = file

    def write(self, data: Any) -> int:
        block = bytes(data)
        if block:
            self._file.write(b"%x\r\n%b\r\n" % (len(block), block))
        return len(block)

    def flush(self) -> None:
        self._file.flush()

    def end(self) -> None:
        self._file.write(b"0\r\n\r\n")
