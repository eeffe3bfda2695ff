"""SSH addresses as testbeds have them, IPv6 with a scope included."""

from __future__ import annotations

import pytest

from siftmoe.tools.flashing.address import SshAddress
from siftmoe.tools.flashing.errors import ReleaseError


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("board", SshAddress("board")),
        ("root@board", SshAddress("board", "root")),
        ("root@board:2222", SshAddress("board", "root", 2222)),
        ("root@::1", SshAddress("::1", "root")),
        ("::1", SshAddress("::1")),
        ("root@[::1]", SshAddress("::1", "root")),
        ("root@[fe80::1%usb0]", SshAddress("fe80::1%usb0", "root")),
        ("root@fe80::1%usb0", SshAddress("fe80::1%usb0", "root")),
        ("[fe80::1%usb0]:2222", SshAddress("fe80::1%usb0", None, 2222)),
        ("a@b@board", SshAddress("board", "a@b")),
    ],
)
def test_an_address_is_read(text: str, parsed: SshAddress) -> None:
    assert SshAddress.parse(text) == parsed


@pytest.mark.parametrize(
    "text",
    ["", "root@", "@board", "board:", "board:x", "board:0", "board:70000", "[::1", "[::1]22"],
)
def test_what_is_none_is_named(text: str) -> None:
    with pytest.raises(ReleaseError, match="is no SSH address; write user@host"):
        SshAddress.parse(text)
