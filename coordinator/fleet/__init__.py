"""The fleet: agents, their states, and the experts that each hosts.

The client sets the states; policies and reports read them.

- `agents.Fleet`: all agents of a testbed
- `status.AgentState`, `status.AgentStatus`: state of one agent
- `placement.Placement`, `placement.place`: which helper hosts which expert
"""
