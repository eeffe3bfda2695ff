"""How the coordinator proves itself to agents, and which agents it talks to in the clear.

Every agent has a key pair of its own, whose public half stands in the testbed file: whoever has the
address but not the key is not talked to. The coordinator's pair is a file in the testbed's folder
of keys; its public half is on the agents' allow-list.
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
    """What a client proves itself by.

    Parameters
    ----------
    keys : KeyPair or None
        The coordinator's own.
    insecure : bool
        Talk to agents beyond this machine that have no key.
    """

    keys: KeyPair | None = None
    insecure: bool = False

    @classmethod
    def of(cls, testbed: Testbed) -> ClientSecurity:
        """Read what a testbed's agents ask for.

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
        """Refuse a fleet that would be talked to in the clear, or cannot be talked to.

        Raises
        ------
        ConfigError
            If an agent beyond this machine has no key, or one has and the coordinator has none.
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
        """Set a socket up for its next connection, to an agent with this key or without one."""
        if server_key is None or self.keys is None:
            router.curve_server = False  # also takes a key back that the last connection had
            return
        router.curve_publickey = self.keys.public.encode()
        router.curve_secretkey = self.keys.secret.encode()
        router.curve_serverkey = server_key.encode()


def _is_local(endpoint: str) -> bool:
    transport, _, rest = endpoint.partition("://")
    return transport != "tcp" or is_loopback(rest.rpartition(":")[0])
