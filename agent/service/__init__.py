"""What an agent does with a request, without sockets: requests in, replies out.

Sockets and threads are in the room `serving`; this room can be tested without them.

- `requests.Service`: answers requests on a runtime
- `finite.check_finite`: refuses results that are NaN or infinite
- `backlog.Backlog`: requests that wait for computation, scheduled fairly between clients
- `pace.Pace`: expected duration of computations
- `sounding.Soundings`: pilot exchanges with the agent's radio
- `telemetry.Telemetry`: counters and memory figures
"""
