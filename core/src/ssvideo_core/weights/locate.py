"""Find a weights file: a published name or a path. Nothing is downloaded unless asked for."""

from __future__ import annotations

import hashlib
import os
import tempfile
import urllib.parse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ssvideo_core.errors import WeightsError
from ssvideo_core.methods import PublishedWeights

WEIGHTS_VARIABLE = "SSVIDEO_WEIGHTS"
ENCODER_FILE = "encoder.safetensors"
TIMEOUT_S = 60
CHUNK = 1 << 20


def weights_folder(method: str) -> Path:
    """Where published files of a method are kept: $SSVIDEO_WEIGHTS/METHOD or the user's cache."""
    root = os.environ.get(WEIGHTS_VARIABLE) or Path.home() / ".cache" / "ssvideo" / "weights"
    return Path(root) / method


def locate(
    weights: str,
    published: Sequence[PublishedWeights],
    *,
    method: str,
    download: bool = False,
    open_address: Callable[[str], Any] | None = None,
) -> tuple[Path, PublishedWeights | None]:
    """The file that `weights` means, and its record if it is published.

    weights: a published name, a file, or a run folder that holds encoder.safetensors.
    download: fetch an absent published file; without it the error says where to get it.
    open_address: opens an address like `urllib.request.urlopen` (the default).
    The hash of a published file is checked where it is known. Raises WeightsError.
    """
    record = next((record for record in published if record.name == weights), None)
    if record is None:
        return _own_file(weights, published), None
    path = weights_folder(method) / record.file
    if not path.is_file():
        if not download:
            raise WeightsError(_absent(record, path))
        _download(record, path, open_address or _open)
    elif record.sha256 and _sha256(path) != record.sha256:
        raise WeightsError(
            f"{path}: sha256 is {_sha256(path)}, the published file's is {record.sha256}; "
            f"delete it and get it again from {record.address}"
        )
    return path, record


def _own_file(weights: str, published: Sequence[PublishedWeights]) -> Path:
    path = Path(weights).expanduser()
    if path.is_dir() and (path / ENCODER_FILE).is_file():
        return path / ENCODER_FILE
    if path.is_file():
        return path
    names = ", ".join(record.name for record in published) or "none"
    what = f"a folder without {ENCODER_FILE}" if path.is_dir() else "not a file"
    raise WeightsError(f"'{weights}' is {what} and no published name; published names: {names}")


def _absent(record: PublishedWeights, path: Path) -> str:
    known = f"sha256 {record.sha256}" if record.sha256 else "its sha256 is not known"
    return (
        f"the weights '{record.name}' are not on this machine. Published at {record.address} "
        f"(licence: {record.licence}; {known}). Put the file at {path}, or add --download"
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_address(address: str) -> None:
    parts = urllib.parse.urlsplit(address)
    local = parts.hostname in ("127.0.0.1", "::1", "localhost")
    if parts.scheme != "https" and not (parts.scheme == "http" and local):
        raise WeightsError(f"{address}: only https addresses are downloaded (http on this machine)")


def _open(address: str) -> Any:
    import urllib.request

    return urllib.request.urlopen(address, timeout=TIMEOUT_S)


def _download(record: PublishedWeights, path: Path, open_address: Callable[[str], Any]) -> None:
    """Fetch a file next to its place, check length and hash, then move it there."""
    from http.client import HTTPException

    _check_address(record.address)
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    size = 0
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        unfinished = Path(folder) / path.name
        try:
            with open_address(record.address) as answer, unfinished.open("wb") as file:
                _check_address(answer.geturl())  # where redirections led
                expected = answer.headers.get("Content-Length")
                while chunk := answer.read(CHUNK):
                    size += len(chunk)
                    digest.update(chunk)
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
        except (OSError, HTTPException, ValueError) as error:
            raise WeightsError(
                f"{record.address}: download failed ({error}); get it by hand and put it at {path}"
            ) from error
        with unfinished.open("rb") as file:
            page = file.read(256).lstrip().lower().startswith((b"<!doctype html", b"<html"))
        found = digest.hexdigest()
        problem = (
            "a web page instead of the file (open it in a browser)" if page
            else f"{size} of {expected} bytes" if expected and int(expected) != size
            else f"sha256 {found}, expected {record.sha256}" if record.sha256 not in (None, found)
            else None
        )  # fmt: skip
        if problem:
            raise WeightsError(f"{record.address}: answered with {problem}; nothing was kept")
        os.replace(unfinished, path)
