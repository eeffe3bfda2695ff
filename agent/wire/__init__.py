"""Messages between a coordinator and an agent: fields, bounds and frames, without sockets.

Both sides import from here. Whatever a peer sends, decoding raises only `ProtocolError`.

- `protocol.encode`, `protocol.decode`: messages to frames and back; import messages from there
- `messages`, `work`, `sound`: the messages; `bounds`: limits of their fields
- `payload`: arrays to raw bytes and back
- `maps`: headers of requests and results as maps
- `short`: headers of a few bytes, with `short_fields` and `short_rows`; `control`: their sizes
- `packed.Packed`: vectors in a few bits per entry; `packed_check.packed_of`: their check
"""
