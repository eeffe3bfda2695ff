"""The agent as an operating system process: command line, start, end, metrics.

It puts the rooms below together: settings to a loaded, bound and running agent.

- `command.configure`, `command.run`: the command line
- `launch.launch`, `launch.spawn`: an agent as a child process
- `patience.Patience`: time limits that allow for a busy machine
- `parent_watchdog.end_with`: ends this process when its parent has ended
- `metrics.agent_samples`: an agent's figures as Prometheus metrics
- `exposition.Exposition`: an HTTP server for Prometheus, also used by the coordinator
"""
