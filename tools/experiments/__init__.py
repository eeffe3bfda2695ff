"""Studies: many settings, policies and seeds, emulated without sockets and without a radio."""
