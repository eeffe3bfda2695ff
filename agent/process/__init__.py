"""The agent as a process: command line, start from another process, its end with it, metrics."""
