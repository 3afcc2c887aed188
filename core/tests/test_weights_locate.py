from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.client import IncompleteRead
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from ssvideo_core.errors import WeightsError
from ssvideo_core.methods import PublishedWeights
from ssvideo_core.weights import locate, weights_folder

CONTENT = bytes(range(256)) * 5000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body, status, headers = CONTENT, 200, {"Content-Length": str(len(CONTENT))}
        if self.path == "/page":
            body, headers = b"\n<!DOCTYPE html><html>Too many users</html>", {}
        elif self.path == "/short":
            body = CONTENT[:1000]
        elif self.path == "/absent":
            body, status, headers = b"", 404, {}
        elif self.path == "/elsewhere":
            body, status, headers = b"", 302, {"Location": "http://example.invalid/w.pth"}
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    thread.join()


@pytest.fixture(autouse=True)
def weights_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SSVIDEO_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "weights"


def record(address: str, sha256: str | None = None) -> PublishedWeights:
    return PublishedWeights("k400", address, "gdt_K400.pth", "CC-BY-NC 4.0", sha256=sha256)


def files(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.rglob("*") if p.is_file())


def test_a_published_file_that_is_present(weights_root: Path) -> None:
    path = weights_root / "gdt_stica" / "gdt_K400.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    for known in (None, SHA256):
        published = record("https://example.invalid/gdt_K400.pth", known)
        assert locate("k400", [published], method="gdt_stica") == (path, published)
    with pytest.raises(WeightsError, match=f"sha256 is {SHA256}, the published file's is 00"):
        locate("k400", [record("https://example.invalid", "00")], method="gdt_stica")


def test_an_absent_published_file_is_not_fetched_but_explained(weights_root: Path) -> None:
    address = "https://example.invalid/gdt_K400.pth"
    with pytest.raises(WeightsError) as caught:
        locate("k400", [record(address, SHA256)], method="gdt_stica")
    text = str(caught.value)
    place = str(weights_root / "gdt_stica" / "gdt_K400.pth")
    for part in (address, place, SHA256, "CC-BY-NC 4.0", "--download"):
        assert part in text
    with pytest.raises(WeightsError, match="its sha256 is not known"):
        locate("k400", [record(address)], method="gdt_stica")
    assert not weights_root.exists()


def test_the_users_own_files_and_run_folders(tmp_path: Path) -> None:
    file = tmp_path / "mine.pth"
    file.write_bytes(b"x")
    assert locate(str(file), [record("https://a.invalid")], method="m") == (file, None)
    run = tmp_path / "run"
    run.mkdir()
    with pytest.raises(WeightsError, match=r"a folder without encoder\.safetensors and no"):
        locate(str(run), [], method="m")
    (run / "encoder.safetensors").write_bytes(b"x")
    assert locate(str(run), [], method="m") == (run / "encoder.safetensors", None)
    with pytest.raises(WeightsError, match=r"'k300' is not a file and no published name; .*: k400"):
        locate("k300", [record("https://a.invalid")], method="m")


def test_the_default_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SSVIDEO_WEIGHTS")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert weights_folder("sce") == tmp_path / ".cache" / "ssvideo" / "weights" / "sce"


@pytest.mark.parametrize("sha256", [None, SHA256])
def test_a_download_that_was_asked_for(server: str, weights_root: Path, sha256: str | None) -> None:
    published = record(f"{server}/w.pth", sha256)
    path, found = locate("k400", [published], method="gdt_stica", download=True)
    assert found == published
    assert path == weights_root / "gdt_stica" / "gdt_K400.pth"
    assert path.read_bytes() == CONTENT
    assert files(weights_root) == ["gdt_K400.pth"]


@pytest.mark.parametrize(
    ("place", "sha256", "message"),
    [
        ("/w.pth", "0" * 64, f"answered with sha256 {SHA256}, expected 000"),
        ("/page", None, "answered with a web page instead of the file"),
        ("/short", None, "answered with 1000 of 1280000 bytes"),
        ("/absent", None, "download failed .*404.*; get it by hand and put it at"),
    ],
)
def test_a_failed_download_leaves_nothing(
    server: str, weights_root: Path, place: str, sha256: str | None, message: str
) -> None:
    with pytest.raises(WeightsError, match=message):
        locate("k400", [record(server + place, sha256)], method="gdt_stica", download=True)
    assert files(weights_root) == []


@pytest.mark.parametrize(
    "address", ["http://example.invalid/w", "ftp://127.0.0.1/w", "file:///etc/passwd", "w.pth"]
)
def test_only_https_is_downloaded(address: str, weights_root: Path) -> None:
    def never(_: str) -> None:
        raise AssertionError("opened")

    with pytest.raises(WeightsError, match="only https addresses are downloaded"):
        locate("k400", [record(address)], method="m", download=True, open_address=never)
    assert not weights_root.exists()


class Redirected:
    """An answer that came from another address than the one asked for."""

    headers: dict[str, str] = {}  # noqa: RUF012

    def __enter__(self) -> Redirected:
        return self

    def __exit__(self, *_: object) -> None: ...

    def geturl(self) -> str:
        return "http://example.invalid/w"

    def read(self, size: int) -> bytes:
        raise AssertionError("read")


def test_a_redirection_away_from_https_is_not_read(weights_root: Path) -> None:
    published = record("https://example.invalid/w")
    with pytest.raises(WeightsError, match=r"http://example\.invalid/w: only https"):
        locate("k400", [published], method="m", download=True, open_address=lambda _: Redirected())
    assert files(weights_root) == []


class Interrupted(Redirected):
    """An answer that ends in the middle."""

    def geturl(self) -> str:
        return "https://example.invalid/w"

    def read(self, size: int) -> bytes:
        raise IncompleteRead(b"half")


def test_an_interrupted_answer_leaves_nothing(weights_root: Path) -> None:
    published = record("https://example.invalid/w")
    with pytest.raises(WeightsError, match=r"download failed .IncompleteRead.*get it by hand"):
        locate("k400", [published], method="m", download=True, open_address=lambda _: Interrupted())
    assert files(weights_root) == []
