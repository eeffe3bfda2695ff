"""CURVE keys of the coordinator, and the check that no agent is used unencrypted by mistake.

Every agent has its own key pair, whose public half stands in the testbed file; a process at the
agent's address without that key cannot complete the handshake. The coordinator's pair is a file in
the testbed's folder of keys; its public half is on the agents' allow-list.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from siftmoe.agent.security.keys import KeyPair
from siftmoe.agent.serving.address import is_loopback
from siftmoe.coordinator.errors import ConfigError

if TYPE_CHECKING:
    import zmq

    from siftmoe.coordinator.config.entries import Testbed
    from siftmoe.coordinator.fleet.agents import Fleet

#: Name of the coordinator's key file in the testbed's folder of keys.
COORDINATOR_KEY: Final = "coordinator.key"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSecurity:
    """Keys and encryption policy of a client.

    Parameters
    ----------
    keys : KeyPair or None
        The coordinator's own.
    insecure : bool
        Allow unencrypted connections to agents on other machines.
    """

    keys: KeyPair | None = None
    insecure: bool = False

    @classmethod
    def of(cls, testbed: Testbed) -> ClientSecurity:
        """Load the keys that a testbed's agents require.

        Raises
        ------
        KeyUnusable
            If an agent has a key and the coordinator's file is missing or unusable.
        """
        keys = None
        if any(agent.key is not None for agent in testbed.agent):
            keys = KeyPair.load(Path(testbed.security.keys) / COORDINATOR_KEY)
        return cls(keys=keys, insecure=testbed.security.insecure)

    def check(self, fleet: Fleet, endpoints: dict[str, int]) -> None:
        """Raise if an agent would be used unencrypted, or requires a key that is missing.

        Raises
        ------
        ConfigError
            If an agent on another machine has no key, or one has a key and the coordinator none.
        """
        for endpoint, index in endpoints.items():
            agent = fleet[index]
            if agent.key is not None and self.keys is None:
                raise ConfigError(
                    f"agent {agent.name!r} has a key, but the coordinator has none; make one "
                    f"with 'siftmoe keys'"
                )
            if agent.key is None and not self.insecure and not _is_local(endpoint):
                raise ConfigError(
                    f"agent {agent.name!r} at {agent.address} has no key: everybody on its "
                    f"network could read along, or pose as it; make keys with 'siftmoe keys', or "
                    f"set insecure = true under [security]"
                )

    def prepare(self, router: zmq.Socket[bytes], server_key: str | None) -> None:
        """Configure a socket for its next connection, to an agent with or without a key."""
        if server_key is None or self.keys is None:
            router.curve_server = False  # also removes the key of the last connection
            return
        router.curve_publickey = self.keys.public.encode()
        router.curve_secretkey = self.keys.secret.encode()
        router.curve_serverkey = server_key.encode()


def _is_local(endpoint: str) -> bool:
    transport, _, rest = endpoint.partition("://")
    return transport != "tcp" or is_loopback(rest.rpartition(":")[0])
