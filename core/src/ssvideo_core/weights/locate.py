"""Find a weights file: a published name or a path. Nothing is downloaded unless asked for."""

from __future__ import annotations

import hashlib
import os
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any

from ssvideo_core.errors import WeightsError
from ssvideo_core.files import replacing, sha256
from ssvideo_core.methods import PublishedWeights

WEIGHTS_VARIABLE = "SSVIDEO_WEIGHTS"
OPEN = partial(urllib.request.urlopen, timeout=60)
ENCODER_FILE = "encoder.safetensors"


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
    open_address: Callable[[str], Any] = OPEN,
) -> tuple[Path, PublishedWeights | None]:
    """The file that `weights` means, and its record if it is published.

    weights: a published name, a file, or a run folder that holds encoder.safetensors.
    download: fetch an absent published file; without it the error says where to get it.
    open_address: opens an address like `urllib.request.urlopen` (the default, for 60 s).
    The hash of a published file is checked where it is known. Raises WeightsError.
    """
    record = next((record for record in published if record.name == weights), None)
    if record is None:
        return _own_file(weights, published), None
    path = weights_folder(method) / record.file
    if not path.is_file():
        if not download:
            known = f"licence: {record.licence}; its sha256 {record.sha256 or 'is not known'}"
            raise WeightsError(
                f"the weights '{weights}' are not on this machine. Published at {record.address} "
                f"({known}). Put the file at {path}, or add --download"
            )
        download_file(record, path, open_address)
    elif record.sha256 and (found := sha256(path)) != record.sha256:
        raise WeightsError(
            f"{path}: sha256 is {found}, the published file's is {record.sha256}; "
            f"delete it and get it again from {record.address}"
        )
    return path, record


def _own_file(weights: str, published: Sequence[PublishedWeights]) -> Path:
    path = Path(weights).expanduser()
    what = f"a folder without {ENCODER_FILE}" if path.is_dir() else "not a file"
    path = path / ENCODER_FILE if path.is_dir() else path
    if path.is_file():
        return path
    names = ", ".join(record.name for record in published) or "none"
    raise WeightsError(f"'{weights}' is {what} and no published name; published names: {names}")


def _check_address(address: str) -> None:
    parts = urllib.parse.urlsplit(address)
    local = parts.hostname in ("127.0.0.1", "::1", "localhost")
    if parts.scheme != "https" and not (parts.scheme == "http" and local):
        raise WeightsError(f"{address}: only https addresses are downloaded (http on this machine)")


def download_file(record: PublishedWeights, path: Path, open_address: Callable[[str], Any]) -> None:
    """Fetch a file next to its place, check length and hash, then move it there."""
    _check_address(record.address)
    digest, head, size = hashlib.sha256(), b"", 0
    with replacing(path) as file:
        try:
            with open_address(record.address) as answer:
                _check_address(answer.geturl())  # where redirections led
                expected = int(answer.headers.get("Content-Length", -1))
                while part := answer.read(1 << 20):
                    file.write(part)
                    digest.update(part)
                    head, size = head or part[:256], size + len(part)
        except (OSError, HTTPException, ValueError) as error:
            raise WeightsError(
                f"{record.address}: download failed ({error}); get it by hand and put it at {path}"
            ) from error
        page = head.lstrip().lower().startswith((b"<!doctype html", b"<html"))
        found = digest.hexdigest()
        problem = (
            "a web page instead of the file (open it in a browser)" if page
            else f"{size} of {expected} bytes" if expected not in (-1, size)
            else f"sha256 {found}, expected {record.sha256}" if record.sha256 not in (None, found)
            else None
        )  # fmt: skip
        if problem:
            raise WeightsError(f"{record.address}: answered with {problem}; nothing was kept")
