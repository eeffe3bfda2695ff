"""Requests in, replies out, without sockets: whose turn it is, experts, pilots, counters."""
