"""CURVE key files and allow-lists.

A key file has the public and the secret key of one device and is readable by its owner only::

    public = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"
    secret = "…"

An allow-list has one public key per line, with the name of its owner; ``#`` begins a comment::

    Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID  coordinator
"""

from __future__ import annotations

import os
import re
import stat
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import zmq
from zmq.utils import z85

from siftmoe.agent.errors import KeyUnusable

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Z85 (ZeroMQ RFC 32) of 32 bytes.
_Z85_KEY: Final = re.compile(r"[0-9A-Za-z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")
#: Mode of a key file: only its owner reads or writes it.
_PRIVATE: Final = 0o600
#: Most lines of an allow-list; a longer file is certainly another one.
_MAX_ALLOWED: Final = 10_000


class _KeyFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    public: str
    secret: str


@dataclass(frozen=True, slots=True)
class KeyPair:
    """Public and secret key of a device, in Z85; ``repr`` leaves the secret key out."""

    public: str
    secret: str = field(repr=False)

    @classmethod
    def generate(cls) -> KeyPair:
        """Generate a new pair."""
        public, secret = zmq.curve_keypair()
        return cls(public.decode(), secret.decode())

    @classmethod
    def load(cls, path: str | Path) -> KeyPair:
        """Read a key file.

        Raises
        ------
        KeyUnusable
            If it cannot be read, others may read it, or its keys are not a pair. The message never
            quotes the file.
        """
        path = Path(path)
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
            if mode & 0o077:
                raise KeyUnusable(
                    f"key {str(path)!r} can be read or written by others (mode {mode:04o}); "
                    f"chmod 600 it, or make a new one if others may have read it"
                )
            pair = msgspec.toml.decode(path.read_bytes(), type=_KeyFile)
            derived = zmq.curve_public(pair.secret.encode()).decode()
        except OSError as error:
            raise KeyUnusable(f"key {str(path)!r} cannot be read: {error.strerror}") from error
        except (ValueError, zmq.ZMQError):
            # Not chained: the parser's message may quote the secret key.
            raise KeyUnusable(
                f"key {str(path)!r} is no key file; make one with 'siftmoe keys'"
            ) from None
        if derived != pair.public:
            raise KeyUnusable(f"key {str(path)!r}: its two halves do not belong together")
        return cls(pair.public, pair.secret)

    def save(self, path: str | Path) -> None:
        """Write a new key file, mode 0600.

        Raises
        ------
        FileExistsError
            If the file exists: a key is never overwritten.
        """
        text = f'public = "{self.public}"\nsecret = "{self.secret}"\n'
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE)
        with open(descriptor, "w", encoding="ascii") as stream:  # closes the descriptor
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())


@dataclass(frozen=True, slots=True)
class Credentials:
    """A listening agent's key pair and the keys it admits: names by public key (Z85)."""

    keys: KeyPair
    allowed: Mapping[str, str]


def load_credentials(key: str | None, allow: str | None) -> Credentials | None:
    """Read an agent's key file and its allow-list; None if neither is given.

    Raises
    ------
    KeyUnusable
        If only one is given, one is unusable, or the list is empty.
    """
    if key is None and allow is None:
        return None
    if key is None or allow is None:
        raise KeyUnusable("an agent with keys needs an allow-list, and one with a list needs keys")
    allowed = load_allowed(allow)
    if not allowed:
        raise KeyUnusable(f"allow-list {allow!r} is empty; nobody could connect")
    return Credentials(KeyPair.load(key), allowed)


def load_allowed(path: str | Path) -> dict[str, str]:
    """Read an allow-list: names by public key.

    Raises
    ------
    KeyUnusable
        If it cannot be read or a line is not a key and a name.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise KeyUnusable(f"allow-list {str(path)!r} cannot be read: {error}") from error
    if len(lines) > _MAX_ALLOWED:
        raise KeyUnusable(f"allow-list {str(path)!r} has {len(lines)} lines; is it another file?")
    allowed: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        key, _, name = line.strip().partition(" ")
        if not key or (key.startswith("#") and not is_public_key(key)):
            continue
        if not is_public_key(key) or not name.strip():
            raise KeyUnusable(
                f"allow-list {str(path)!r}, line {number}: expected a public key of 40 characters "
                f"and a name"
            )
        allowed[key] = name.strip()
    return allowed


def is_public_key(text: str) -> bool:
    """Whether a text has the form of a CURVE key in Z85."""
    if _Z85_KEY.fullmatch(text) is None:
        return False
    try:
        return len(z85.decode(text.encode())) == 32
    except struct.error:  # five characters that stand for more than 32 bits
        return False
