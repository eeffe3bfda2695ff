"""Server side of the IIOD protocol of libiio 0.24.

- `server.PlutoServer`: TCP in front of one emulated Pluto, with faults on demand.
- `session.Session`: one client's connection, without sockets: bytes in, replies out.
- `syntax`: syntax of lines and numbers, and the limits on what a client may send.
"""
