"""Messages between a coordinator and an agent: their fields, their bounds, their frames."""
