"""Messages between a coordinator and an agent: fields, bounds and frames, without sockets.

Both sides import from here. Whatever a peer sends, decoding raises only `ProtocolError`.

- `protocol.encode`, `protocol.decode`: messages to frames and back; import messages from there
- `messages`, `work`, `sound`: the messages; `bounds`: limits of their fields
- `payload`: arrays to raw bytes and back
- `packed.Packed`: vectors in a few bits per entry; `packed_check.packed_of`: their check
"""
