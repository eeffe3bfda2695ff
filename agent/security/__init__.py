"""Access control of an agent: CURVE keys, allow-lists, authentication and its log.

Connections are encrypted and authenticated by ZeroMQ; this room decides which keys are admitted.

- `keys.KeyPair`, `keys.Credentials`: key files and allow-lists
- `authenticator.Authenticator`: the ZAP handler that admits or refuses each key
- `handshakes.Handshakes`: limits on connections that are not authenticated yet
- `unfinished.Unfinished`: limit on the bytes of a message that does not end
- `descriptors.raise_limit`: descriptors for connections, and a reserve for the agent
- `connections.Connection`: a TCP connection observed by its descriptor
- `arrivals.Arrivals`: which connections ended before authentication
- `peer_log.PeerLog`: warnings that are logged once per peer
"""
