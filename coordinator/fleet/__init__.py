"""Who is there: the agents, their states, and which of them hosts which expert."""
