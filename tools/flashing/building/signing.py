"""Signs releases with a workstation's key; a board accepts the first workstation it meets.

The key is an SSH key, so that a board can check the signature with its own ``ssh-keygen``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import asyncssh

from siftmoe.agent.errors import KeyUnusable
from siftmoe.tools.flashing.onboard.releases import NAMESPACE, SIGNER

if TYPE_CHECKING:
    from pathlib import Path

RELEASE_KEY: Final = "release.key"


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs releases."""

    key: asyncssh.SSHKey = field(repr=False)

    @classmethod
    def of(cls, folder: Path) -> Signer:
        """Read the release key in a testbed's folder of keys; it is made if there is none.

        Raises
        ------
        KeyUnusable
            If other users can read it, or it is no private key.
        """
        path = folder / RELEASE_KEY
        if not path.exists():
            key = asyncssh.generate_private_key("ssh-ed25519", comment="siftmoe releases")
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "wb") as stream:  # takes ownership of the descriptor
                stream.write(key.export_private_key())
        if path.stat().st_mode & 0o077:
            raise KeyUnusable(f"key {str(path)!r} can be read by others; chmod 600 it")
        try:
            return cls(asyncssh.read_private_key(path))
        except asyncssh.KeyImportError as error:
            raise KeyUnusable(f"key {str(path)!r} is no private key: {error}") from error

    @property
    def line(self) -> str:
        """Public key as a line of ssh-keygen's allowed signers, which a board stores."""
        public = self.key.export_public_key().decode().split()
        return f'{SIGNER} namespaces="{NAMESPACE}" {public[0]} {public[1]}'

    def sign(self, content: bytes) -> bytes:
        """Return the signature of a release's manifest."""
        return bytes(asyncssh.create_sshsig(self.key, content, namespace=NAMESPACE))
