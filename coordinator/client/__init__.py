"""Requests to agents and their replies: sockets, liveness, deadlines, security."""
