"""Access control of an agent: CURVE keys, allow-lists, authentication and its log.

Connections are encrypted and authenticated by ZeroMQ; this room decides which keys are admitted.

- `keys.KeyPair`, `keys.Credentials`: key files and allow-lists
- `authenticator.Authenticator`: the ZAP handler that admits or refuses each key
- `arrivals.Arrivals`: which connections ended before authentication
- `peer_log.PeerLog`: warnings that are logged once per peer
"""
