"""States of agents, derived from their connections and from what they report. Uses no socket.

- `liveness.Liveness`: states from the events of connections
- `retry.Retries`: agents that refuse the handshake, and new attempts
- `rest.Rests`: back-off of agents that gave no result
- `heat.Heats`: agents that are too hot
- `checks.AgentChecks`: hellos and requests for temperatures, and the states that follow
"""
