"""Downloads, from a server here that does what servers do: cut, corrupt, stall, redirect, refuse, lie."""

import contextlib
import gzip
import hashlib
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

import pytorch_impl.train_vae
from common.data import datasets, download
from common.data import files as data_files
from common.data.download import RemoteFile, Source
from parity_tests.conftest import idx
from parity_tests.support.scripts import ROOT

Answer = Callable[[BaseHTTPRequestHandler, bytes], None]


PIXELS = np.random.RandomState(0).randint(0, 256, (40, 28, 28)).astype(np.uint8)
CONTENT = {
    "train-images-idx3-ubyte.gz": idx(PIXELS),
    "train-labels-idx1-ubyte.gz": idx(np.arange(40, dtype=np.uint8) % 10),
    "t10k-images-idx3-ubyte.gz": idx(PIXELS[:5]),
    "t10k-labels-idx1-ubyte.gz": idx(np.arange(5, dtype=np.uint8)),
}
BODY = {f"/{name}": gzip.compress(content, mtime=0) for name, content in CONTENT.items()}


def remote(name: str, compressed: bool = False) -> RemoteFile:
    whole, content = BODY[f"/{name}"], CONTENT[name]
    if compressed:
        return RemoteFile(name, len(whole), len(content), sha256=hashlib.sha256(whole).hexdigest())
    return RemoteFile(name, len(whole), len(content), hashlib.sha256(content).hexdigest())


class Server:
    """Answers GET /MIRROR/FILE as ``answers[MIRROR]`` does, one after the other, the last one for good."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Answer]] = {}
        self.asked: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                _, mirror, name = self.path.split("/")
                answers = outer.answers[mirror]
                with contextlib.suppress(OSError):  # the other side had enough
                    (answers.pop(0) if len(answers) > 1 else answers[0])(self, BODY[f"/{name}"])
                self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def mirror(self, name: str, *answers: Answer) -> str:
        self.answers[name] = list(answers)
        return f"http://127.0.0.1:{self.http.server_port}/{name}/"


def whole(handler: BaseHTTPRequestHandler, body: bytes, length: int | None = -1, code: int = 200) -> None:
    handler.send_response(code)
    if length is not None:
        handler.send_header("Content-Length", str(len(body) if length == -1 else length))
    handler.end_headers()
    handler.wfile.write(body)


def redirect(to: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        handler.send_response(302)
        handler.send_header("Location", to.format(path=handler.path, file=handler.path.rpartition("/")[2]))
        handler.end_headers()

    return answer


def endless(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    whole(handler, b"", length=None)
    for _ in range(2000):  # 20 MB, of which the client must not take more than a little
        handler.wfile.write(bytes(10_000))


def stalled(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    whole(handler, body[: len(body) // 2], length=len(body))
    handler.wfile.flush()
    time.sleep(1.5)


def dripping(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    whole(handler, b"", length=len(body))
    for byte in body:
        handler.wfile.write(bytes([byte]))
        handler.wfile.flush()
        time.sleep(0.05)


def spoilt(body: bytes) -> bytes:
    return body[:200] + bytes([body[200] ^ 1]) + body[201:]


FAULTS: dict[str, tuple[Answer, str]] = {
    "cut short": (lambda h, b: whole(h, b[:99], length=len(b)), "sends 99 bytes where it announced"),
    "cut short, of unknown length": (lambda h, b: whole(h, b[:99], length=None), "cut short or damaged"),
    "announces less than it sends": (lambda h, b: whole(h, b, length=len(b) // 2), "cut short or damaged"),
    "announces too much": (lambda h, b: whole(h, b, length=10**12), "announces 1,000,000,000,000 bytes"),
    "announces a negative length": (lambda h, b: whole(h, b[:50], length=-50), "cut short or damaged"),
    "sends too much": (endless, "sends more than"),
    "corrupt": (lambda h, b: whole(h, spoilt(b)), "damaged|not the published one|not [0-9,]+ bytes long"),
    "other data": (lambda h, b: whole(h, gzip.compress(b"\1" * (16 + 784 * 40))), "SHA-256 of its content is not"),
    "more data": (lambda h, b: whole(h, gzip.compress(bytes(10**7))), "its content is not 31,376 bytes long"),
    "a page of HTML": (lambda h, b: whole(h, b"<html>please log in</html>"), "cut short or damaged"),
    "silent": (lambda h, b: time.sleep(1.5), "timed out"),
    "stalls": (stalled, "timed out"),
    "drips": (dripping, "less than 1024 bytes a second"),
    "redirects in a loop": (redirect("{path}"), "HTTP 302, .*infinite loop"),
    "redirects to a file": (redirect("file:///etc/hostname"), "HTTP 302, .*not allowed"),
    "redirects to ftp": (redirect("ftp://127.0.0.1/x"), "unknown url type: ftp"),
    "redirects to data": (redirect("data:text/plain,x"), "HTTP 302, .*not allowed"),
    "redirects to nowhere": (redirect("http://[bad"), "."),
    "speaks no HTTP": (lambda h, b: h.wfile.write(b"\x00\x01 220 smtp\r\n") and None, "."),
    "not found": (lambda h, b: whole(h, b"", code=404), "HTTP 404, "),
    "forbidden": (lambda h, b: whole(h, b"", code=403), "HTTP 403, "),
    "broken": (lambda h, b: whole(h, b"", code=500), "HTTP 500, "),
}
SLOW = {"silent", "stalls", "drips"}
FINAL = {"announces too much", "sends too much", "not found", "forbidden"}  # no use to ask again


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "WAITS", (0.0,))
    return tmp_path / "cache" / download.APPLICATION / "mnist"


@pytest.fixture
def mnist(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def source(*mirrors: str, files: tuple[str, ...] = tuple(CONTENT), compressed: bool = False) -> None:
        described = tuple(remote(name, compressed) for name in files)
        monkeypatch.setitem(download.SOURCES, "mnist", Source(mirrors, described))

    return source


ONE = ("train-images-idx3-ubyte.gz",)


def test_data_are_downloaded_once_and_said(server: Server, mnist: Callable, cache: Path, capfd) -> None:
    mnist(server.mirror("a", whole))
    data = datasets.load("mnist")
    np.testing.assert_allclose(data.x, PIXELS.reshape(40, -1) / 255, rtol=1e-7)
    np.testing.assert_array_equal(data.held_out.labels, np.arange(5))
    assert sorted(path.name for path in cache.iterdir()) == sorted(CONTENT)
    told = capfd.readouterr()
    assert told.out == ""
    assert re.fullmatch(rf"mnist: 4 file\(s\) of 0.0 MB in all from 127.0.0.1:\d+ .* into {cache}\n", told.err)
    assert len(server.asked) == 4
    np.testing.assert_array_equal(datasets.load("mnist").x, data.x)
    assert len(server.asked) == 4, "the second time, nothing is asked for"
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("kind", FAULTS)
def test_a_mirror_at_fault_is_left_for_the_next(
    server: Server, mnist: Callable, cache: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, message = FAULTS[kind]
    if kind in SLOW:
        monkeypatch.setattr(download, "SECONDS_WITHOUT_AN_ANSWER", 0.4)
    mnist(server.mirror("faulty", answer), server.mirror("sound", whole), files=ONE)
    download.fetch("mnist")
    assert gzip.decompress((cache / ONE[0]).read_bytes()) == CONTENT[ONE[0]]
    assert [path.name for path in cache.iterdir()] == [ONE[0]], "nothing is left beside it"
    (cache / ONE[0]).unlink()
    server.asked.clear()
    mnist(server.mirror("faulty", answer), files=ONE)
    with pytest.raises(ValueError, match=message) as error:
        download.fetch("mnist")
    assert "\n" not in str(error.value)
    for part in ("data='mnist' could not be downloaded", ONE[0], "/faulty/", str(cache), "data_dir"):
        assert part in str(error.value)
    assert list(cache.iterdir()) == []
    if "redirects" not in kind:
        assert len(server.asked) == (1 if kind in FINAL else 2), "what may pass is tried again, what may not is not"


def test_nothing_listens_or_nobody_knows_the_name(mnist: Callable) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    mnist(f"http://127.0.0.1:{port}/", files=ONE)
    with pytest.raises(ValueError, match="Connection refused"):
        download.fetch("mnist")


def test_a_machine_that_is_offline_does_not_wait(mnist: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*_: object, **__: object) -> None:
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    monkeypatch.setattr(download, "WAITS", (1000.0,))
    monkeypatch.delenv("http_proxy")
    mnist("http://one.invalid/", "http://two.invalid/")
    with pytest.raises(ValueError, match=r"one.invalid: .*name resolution; two.invalid: .*; get train-images"):
        download.fetch("mnist")


def test_a_fault_that_passes(server: Server, mnist: Callable, cache: Path) -> None:
    mnist(server.mirror("a", FAULTS["broken"][0], whole), files=ONE)
    download.fetch("mnist")
    assert len(server.asked) == 2
    (cache / ONE[0]).write_bytes(b"spoilt")
    mnist(server.mirror("a", redirect("/b/{file}")), files=ONE)
    server.mirror("b", whole)
    download.fetch("mnist")
    assert (cache / ONE[0]).read_bytes() == BODY["/" + ONE[0]], "one redirect is followed; a damaged copy is replaced"


def test_the_same_data_in_another_compression(server: Server, mnist: Callable) -> None:
    again = server.mirror("a", lambda h, b: whole(h, gzip.compress(gzip.decompress(b), 1)))
    mnist(again, compressed=True, files=ONE)
    with pytest.raises(ValueError, match="its SHA-256 is not the published one"):
        download.fetch("mnist")
    mnist(again, files=ONE)
    download.fetch("mnist")
    mnist(server.mirror("b", whole), compressed=True, files=ONE)
    download.fetch("mnist")
    assert download.fault(download.fetch("mnist") / ONE[0], remote(ONE[0], compressed=True)) is None


def test_two_processes_at_once_do_not_harm_each_other(server: Server, cache: Path) -> None:
    def slow(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        whole(handler, body[:50], length=len(body))
        time.sleep(0.3)
        handler.wfile.write(body[50:])

    file = remote(ONE[0])
    mirror = server.mirror("a", slow)
    code = (
        "from common.data import download as d; from common.data.download import RemoteFile, Source\n"
        f"d.SOURCES['mnist'] = Source(({mirror!r},), ({file!r},))\n"
        f"path = d.fetch('mnist') / {ONE[0]!r}\n"
        f"assert d.fault(path, {file!r}) is None"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) for _ in range(2)]
    assert [process.wait(60) for process in processes] == [0, 0]
    assert [path.name for path in cache.iterdir()] == [ONE[0]]


def test_a_cache_that_cannot_be_written(
    server: Server, mnist: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mnist(server.mirror("a", whole), files=ONE)
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(ValueError, match=r"cannot be written \(.*data_dir, or another cache by XDG_CACHE_HOME"):
        download.fetch("mnist")
    (tmp_path / "cache").unlink()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(ValueError, match=r"cannot be written \(.*No space left"):
        download.fetch("mnist")
    assert not any(path.is_file() for path in (tmp_path / "cache").rglob("*"))


def test_where_caches_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert download.cache_folder() == tmp_path / "cache" / "mixtures-to-vae"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "a/relative/path")
    for platform, folder in (("linux", ".cache"), ("darwin", "Library/Caches")):
        monkeypatch.setattr(sys, "platform", platform)
        assert download.cache_folder() == tmp_path / folder / "mixtures-to-vae"


def test_a_script_that_cannot_download_says_what_to_do(
    server: Server, mnist: Callable, tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture
) -> None:
    mnist(server.mirror("a", FAULTS["not found"][0]))
    arguments = ["--data", "mnist", "--steps", "2", "--hidden-dim", "8", "--out", str(tmp_path / "run")]
    assert pytorch_impl.train_vae.main(arguments) == 2
    said, error = capsys.readouterr().err.splitlines()
    assert said.startswith("mnist: 4 file(s)")
    assert "error: --data mnist: could not be downloaded (127.0.0.1:" in error
    assert not (tmp_path / "run").exists()
    for name, body in BODY.items():  # as the line says
        (cache / name[1:]).write_bytes(body)
    assert pytorch_impl.train_vae.main(arguments) == 0


def test_the_table_of_sources_is_complete() -> None:
    assert set(download.SOURCES) == {"mnist", "fashion-mnist", "kmnist"}
    sums = []
    for source in download.SOURCES.values():
        assert [file.name.removesuffix(".gz") for file in source.files] == [
            name for part in data_files.IDX_FILES.values() for name in part
        ]
        assert all(re.fullmatch(r"https?://.*/", mirror) for mirror in source.mirrors)
        for file in source.files:
            (known,) = {file.content_sha256, file.sha256} - {None}
            assert re.fullmatch("[0-9a-f]{64}", known)
            sums.append(known)
            shape = (60_000 if "train" in file.name else 10_000, *((28, 28) if "images" in file.name else ()))
            assert file.content_size == 4 + 4 * len(shape) + np.prod(shape)
    assert len(set(sums)) == 12
    assert hashlib.sha256("".join(sums).encode()).hexdigest()[:16] == "a6d4b599780ba14f", "not as they were published"
