"""The server of the local page: what it answers, to whom, and that it goes on."""

import http.client
import io
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote, urlencode, urlsplit

import numpy as np
import pytest

import wdsr_jax
from tests.photo.samples import photo_file
from tests.photo.shipped import CLEAN, FAST, PHOTO, ship
from wdsr_jax.errors import UserError
from wdsr_jax.image.files import read_image
from wdsr_jax.photo import serve
from wdsr_jax.photo.command import parse_arguments
from wdsr_jax.weights.files import list_pretrained
from wdsr_jax.weights.store import load_pretrained


class Client:
    """Asks the server; `headers` and the key can be others."""

    def __init__(self, server):
        self.port, self.key = server.server_port, server.key

    def ask(self, path="", method="GET", body=None, key=None, **headers):
        """Status, headers and body of an answer; a header's name has _ for -."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, f"/{self.key if key is None else key}/{path}", body, names)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return SimpleNamespace(status=answer.status, headers=answer.headers, body=body)

    def line(self, *args, **options):
        """Status and line of a refusal."""
        answer = self.ask(*args, **options)
        error = json.loads(answer.body)["error"]
        assert "\n" not in error
        return answer.status, error

    def send(self, name, content, **chosen):
        answer = self.ask("pictures?" + urlencode({"name": name, **chosen}), "POST", content)
        return answer.status, json.loads(answer.body)

    def wait(self, identifier):
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            (picture,) = (p for p in json.loads(self.ask("state").body) if p["id"] == identifier)
            if picture["state"] in ("done", "failed"):
                return picture
            time.sleep(0.02)
        raise AssertionError("not done in time")


@pytest.fixture
def opened(weights, monkeypatch):
    """Starts a server with options of the command; gives a client."""
    monkeypatch.setattr(serve, "_PORTS_TRIED", 0)  # any free port: others may use the default one
    with ExitStack() as stack:

        def start(*options, model=weights):
            arguments = ["--serve", "--scale=2", *[f"--model={model}"] * bool(model), *options]
            server = stack.enter_context(serve.open_server(parse_arguments(arguments)))
            threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
            stack.callback(server.shutdown)
            client = Client(server)
            client.server = server
            return client

        yield start


def noise_png(tmp_path, height=9, width=8):
    pixels = photo_file(tmp_path / "noise.png", height, width)
    return pixels, (tmp_path / "noise.png").read_bytes()


def test_what_is_downloaded_is_what_the_function_gives(opened, tmp_path, weights):
    client = opened()
    pixels, content = noise_png(tmp_path)
    status, sent = client.send("my cat é.png", content)
    assert status == 201
    assert (sent["name"], sent["size"], sent["resultSize"]) == ("my cat é.png", [9, 8], [18, 16])
    picture = client.wait(sent["id"])
    assert (picture["state"], picture["resultName"]) == ("done", "my cat é_x2.png")
    answer = client.ask(f"pictures/{sent['id']}/result")
    assert answer.headers["Content-Disposition"] == "attachment; filename*=UTF-8''" + quote("my cat é_x2.png")
    assert answer.headers["Content-Type"] == "image/png"
    assert len(answer.body) == picture["bytes"]
    expected = wdsr_jax.upscale(*load_pretrained(weights), pixels, engine=None)
    np.testing.assert_array_equal(read_image(io.BytesIO(answer.body)), expected)
    for view, kind in (("thumbnail", "png"), ("nearest", "png"), ("bicubic", "avif"), ("after", "avif")):
        answer = client.ask(f"pictures/{sent['id']}/{view}")
        assert (answer.status, answer.headers["Content-Type"]) == (200, f"image/{kind}")
        assert "Content-Disposition" not in answer.headers
        read_image(io.BytesIO(answer.body))
    assert client.ask(f"pictures/{sent['id']}", "DELETE").status == 200
    assert client.line(f"pictures/{sent['id']}/result")[0] == 404
    assert list(client.server.folder.iterdir()) == []


def test_the_choices_count(opened, tmp_path):
    client = opened()
    _, content = noise_png(tmp_path)
    for scale, model, output_format, suffix in (
        ("2", "", "webp", "webp"),
        ("3", "wdsr-a-16-x3", "jpeg", "jpg"),
    ):
        _, sent = client.send("a.png", content, scale=scale, model=model, format=output_format)
        picture = client.wait(sent["id"])
        assert picture["resultName"] == f"a_x{scale}.{suffix}"
        image = read_image(io.BytesIO(client.ask(f"pictures/{sent['id']}/result").body))
        assert image.shape == (9 * int(scale), 8 * int(scale), 3)


def test_the_page_offers_what_there_is(weights):
    shipped = serve.choices(parse_arguments(["--serve"]))
    assert shipped["scales"] == ["2", "3", "4"] and shipped["scale"] == "4"
    names = {name for names in shipped["models"].values() for name in names}
    assert names - {serve.CHOSEN} == set(list_pretrained())
    own = serve.choices(parse_arguments(["--serve", "--scale=2.5", f"--model={weights}", "--format=webp"]))
    assert (own["scale"], own["format"]) == ("2.5", "webp")
    assert own["models"]["2.5"] == [weights]
    assert own["models"]["4"] == [weights, *(name for name in shipped["models"]["4"] if name != serve.CHOSEN)]


def test_the_page_lets_each_photograph_choose(opened, monkeypatch, tmp_path):
    ship(monkeypatch, tmp_path / "shipped", CLEAN, PHOTO, FAST)
    client = opened(model=None)
    names = client.server.choices["models"]["2"]
    assert names[0] == serve.CHOSEN and sorted(names[1:]) == sorted([CLEAN, PHOTO, FAST])
    pixels, content = noise_png(tmp_path)
    for model, name in (("", PHOTO), (serve.CHOSEN, PHOTO), (FAST, FAST)):
        _, sent = client.send("a.png", content, model=model)
        assert sent["choice"] is None
        picture = client.wait(sent["id"])
        assert picture["state"] == "done"
        if model == FAST:  # there was nothing to choose
            assert picture["choice"] is None
        else:
            why, chosen = picture["choice"]
            assert re.fullmatch(r"noise of [\d.]+ levels", why) and chosen == PHOTO
        answer = client.ask(f"pictures/{sent['id']}/result")
        expected = wdsr_jax.upscale(*load_pretrained(name), pixels, engine=None)
        np.testing.assert_array_equal(read_image(io.BytesIO(answer.body)), expected)
    assert serve.choices(parse_arguments(["--serve", "--model=fast"]))["models"]["2"][0] == FAST


def test_several_at_once(opened, tmp_path, weights):
    client = opened()
    samples = [noise_png(tmp_path, 9, 8 + i) for i in range(6)]
    ids = {}

    def send(i):
        ids[i] = client.send("same.png", samples[i][1])[1]["id"]

    threads = [threading.Thread(target=send, args=[i]) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    network = load_pretrained(weights)
    expected = [wdsr_jax.upscale(*network, pixels, engine=None) for pixels, _ in samples]
    for i, identifier in ids.items():
        assert client.wait(identifier)["state"] == "done"
        result = read_image(io.BytesIO(client.ask(f"pictures/{identifier}/result").body))
        np.testing.assert_array_equal(result, expected[i])
    with zipfile.ZipFile(io.BytesIO(client.ask("all.zip").body)) as archive:
        assert archive.testzip() is None
        assert sorted(archive.namelist()) == sorted(
            ["same_x2.png", *(f"same_x2 ({i}).png" for i in range(2, 7))]
        )


def test_refusals_are_a_status_and_one_line(opened, tmp_path):
    client = opened()
    _, content = noise_png(tmp_path)
    assert client.send("empty.jpg", b"") == (422, {"error": "empty.jpg: the file is empty"})
    assert client.send("a.txt", b"text")[1] == {"error": "a.txt: not an image"}
    assert client.send("clip.mp4", content)[0] == 422
    assert client.send("a.png", content, scale="7") == (400, {"error": "scale: one of 2, 3, 4"})
    status, answer = client.send("a.png", content, model="/etc/passwd")
    assert status == 400 and answer["error"].startswith("model: one of ")
    assert client.send("a.png", content, format="exe")[0] == 400
    for path in ("nothing", "pictures", "pictures/", "pictures/0123456789abcdef/result", "state/x"):
        assert client.line(path)[0] == 404
    assert client.line("elsewhere", "POST", b"")[0] == 404
    connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=60)
    connection.putrequest("POST", f"/{client.key}/pictures?name=a.png")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()  # and no chunk: the server need not wait for one
    assert connection.getresponse().status == 411
    # A cut file and one that is too large for the memory show in their turn.
    _, cut = client.send("cut.png", content[:-30])
    picture = client.wait(cut["id"])
    assert picture["state"] == "failed" and picture["error"].startswith("cut.png: cannot be read (")
    assert client.line(f"pictures/{cut['id']}/result") == (409, picture["error"])
    assert client.send("fine.png", content)[0] == 201


def test_what_is_too_large_is_refused_with_the_command_s_lines(opened, tmp_path):
    client = opened("--scale=1e6")
    _, content = noise_png(tmp_path)
    line = "a.jpg: 8000000 x 9000000 pixels are too many for JPEG (at most 65500 a side); use .png or .tif"
    assert client.send("a.jpg", content) == (422, {"error": line})
    _, sent = client.send("a.png", content)
    line = r"a\.png: 8000000 x 9000000 pixels take 216000\.0 GB of memory and [\d.]+ GB are free; "
    assert re.match(line, client.wait(sent["id"])["error"])


def test_an_upload_has_an_end(opened, monkeypatch):
    client = opened()
    connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=60)
    connection.putrequest("POST", f"/{client.key}/pictures?name=a.png")
    connection.putheader("Content-Length", str(2**40))
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == 413
    assert json.loads(answer.read()) == {"error": "a.png: more than 512 MB; use the command line"}
    monkeypatch.setattr(serve._Handler, "timeout", 0.2)
    with socket.create_connection(("127.0.0.1", client.port)) as slow:
        slow.sendall(
            b"POST /%b/pictures?name=a.png HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Length: 1000\r\n\r\nabc"
            % (client.key.encode(), client.port)
        )
        with slow.makefile("rb") as file:
            answer = file.read()
    assert b" 408 " in answer and b"a.png: only a part of it arrived; drop it again" in answer
    assert list(client.server.folder.iterdir()) == []


def test_only_the_page_of_this_run_is_answered(opened, tmp_path):
    client = opened()
    assert client.line("state", key="wrong") == (
        403,
        "open the whole address that the command printed; it holds a key",
    )
    for key in ("", "..", client.key[:-1], client.key + "x"):
        assert client.line("", key=key)[0] == 403
    own = f"127.0.0.1:{client.port}"
    for host in (
        "evil.example",
        f"evil.example:{client.port}",
        "127.0.0.1",
        f"127.0.0.1.evil:{client.port}",
        "",
    ):
        assert client.line("state", Host=host)[0] == 421
    for host in (own, f"localhost:{client.port}"):
        assert client.ask("state", Host=host).status == 200
    for origin in ("http://evil.example", "null", "https://" + own, f"http://127.0.0.1:{client.port + 1}"):
        assert client.line("pictures?name=a.png", "POST", b"abc", Origin=origin)[0] == 403
    assert client.ask("state", Origin="http://" + own).status == 200


@pytest.mark.parametrize(
    "name", ["../../../tmp/evil.png", "/etc/evil.png", "..\\evil.png", "%2e%2e%2fevil.png"]
)
def test_no_name_is_a_path(opened, tmp_path, name):
    client = opened()
    _, sent = client.send(name, noise_png(tmp_path)[1])
    client.wait(sent["id"])
    assert "/" not in sent["name"] and "\\" not in sent["name"]
    names = [path.name for path in client.server.folder.iterdir()]
    assert names and all(re.fullmatch(rf"{sent['id']}\.[a-z]+", name) for name in names)
    for path in ("../../../../etc/passwd", "pictures/../../etc/passwd", f"pictures/{sent['id']}/../../x"):
        assert client.line(path)[0] == 404
    with zipfile.ZipFile(io.BytesIO(client.ask("all.zip").body)) as archive:
        (entry,) = archive.namelist()
    assert "/" not in entry and ".." not in entry


def test_the_page_needs_nothing_else_and_allows_nothing_else(opened):
    client = opened()
    first, second = client.ask(), client.ask()
    page = first.body.decode()
    assert first.headers["Content-Type"] == "text/html; charset=utf-8"
    assert not re.search(r"https?://|@import|url\(|\{\{|slider\.(css|js)", page)
    policy = first.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ") and "unsafe" not in policy
    (nonce,) = set(re.findall(r'nonce="([^"]+)"', page))
    assert f"script-src 'nonce-{nonce}'" in policy and nonce not in second.body.decode()
    for answer in (first, client.ask("state"), client.ask("none"), client.ask(key="x")):
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["Cache-Control"] == "no-store"


def test_names_of_networks_are_text(opened, weights, tmp_path):
    path = tmp_path / "<!--<script>alert(1).safetensors"
    path.write_bytes(Path(weights).read_bytes())
    page = opened(model=path).ask().body.decode()
    assert "<script>alert" not in page and "\\u003cscript>alert" in page


def test_odd_requests_harm_nobody(opened, tmp_path):
    client = opened()
    idle = [socket.create_connection(("127.0.0.1", client.port)) for _ in range(20)]
    for request in (
        b"\0\1\2\r\n\r\n",
        b"GET\r\n\r\n",
        b"BREW / HTTP/1.1\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", client.port)) as odd:
            odd.sendall(request)
            odd.shutdown(socket.SHUT_WR)
            odd.settimeout(60)
            while odd.recv(10_000):
                pass
    _, sent = client.send("a.png", noise_png(tmp_path)[1])
    assert client.wait(sent["id"])["state"] == "done"
    for connection in idle:
        connection.close()


def test_a_port_that_is_taken(opened, weights, monkeypatch):
    taken = opened().port
    arguments = parse_arguments([f"--serve={taken}", f"--model={weights}"])
    with pytest.raises(UserError, match=f"--serve={taken}: the port cannot be used .*; choose another"):
        serve.open_server(arguments).__enter__()
    monkeypatch.setattr(serve, "DEFAULT_PORT", taken)
    monkeypatch.setattr(serve, "_PORTS_TRIED", 3)
    assert taken < opened().port


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_and_nothing_is_left(tmp_path, weights, number, code):
    command = [sys.executable, "-m", "wdsr_jax.upscale", "--serve", f"--model={weights}"]
    process = subprocess.Popen(
        command,
        env={
            "PATH": "",
            "HOME": str(tmp_path),
            "TMPDIR": str(tmp_path),
            "PYTHONPATH": str(Path(__file__).parents[2]),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    line = process.stdout.readline()
    url = urlsplit(
        re.fullmatch(r"open (\S+) in a browser on this machine; Ctrl-C ends the server\n", line)[1]
    )
    assert url.hostname == "127.0.0.1"
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=60)
    connection.request("GET", url.path)
    assert connection.getresponse().status == 200
    assert list(tmp_path.glob("wdsr_jax-*"))
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (code, "")
    assert err == ("interrupted\n" if number == signal.SIGINT else "")
    assert not list(tmp_path.glob("wdsr_jax-*"))
