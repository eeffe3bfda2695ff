"""Requests to agents and their replies, over ZeroMQ.

One client holds the connections to all agents, detects dead, stopped, refusing and hot ones, and
ends every request with a reply or an error within its deadline.

- `requests.Client`: sends requests and collects replies
- `exchange.Exchange`: replies and errors of one round
- `connections.Connections`: the ROUTER and its monitor; `pulse.Pulse`: the heartbeats
- `security.ClientSecurity`: CURVE keys of the coordinator
- `lookup.Lookups`: names of agents that have no address yet
- `health`: states of agents, without sockets
"""
