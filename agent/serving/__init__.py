"""Sockets and threads of an agent: one thread listens while another one computes.

It receives messages, hands them to a `service.requests.Service` and sends the replies.

- `server.Server`: the agent's loop
- `router.SharedRouter`: the agent's ROUTER socket, shared by its threads
- `sockets.open_router`: the socket's options with their reasons
- `address.check_address`: which addresses an agent may listen on
- `unread.Unread`: large replies that peers have not taken yet
- `notify.Supervisor`: status messages to systemd
- `wakeup.Wakeup`: a descriptor that ends a wait
"""
