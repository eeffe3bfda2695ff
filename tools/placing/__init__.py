"""Placements for people: chosen for a testbed, compared, shown, and written.

- `plan.plan_placement`: a placement of a testbed, compared with what its file says and round robin
- `showing.agents_table`, `showing.compared_table`, `showing.sentences`: on the terminal
- `writing.write_testbed`: a testbed file with the chosen lists
"""
