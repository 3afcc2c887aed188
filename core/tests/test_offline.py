from __future__ import annotations

import socket

import pytest
from ssvideo_core.testing.offline import OfflineError, is_local


def test_another_machine_is_refused() -> None:
    with socket.socket() as client, pytest.raises(OfflineError, match=r"192\.0\.2\.1"):
        client.connect(("192.0.2.1", 80))


def test_loopback_is_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
        client.connect(server.getsockname())


@pytest.mark.parametrize(
    ("address", "local"),
    [
        (("127.0.0.1", 1), True),
        (("::1", 1, 0, 0), True),
        (("localhost", 1), True),
        ("/tmp/socket", True),
        (("10.0.0.1", 1), False),
        (("example.org", 1), False),
    ],
)
def test_is_local(address: object, local: bool) -> None:
    assert is_local(address) is local
