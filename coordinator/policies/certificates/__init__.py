"""Lower bounds on a batch's least energy, and exact closing of the gap.

A bound holds whatever the prices that prove it.

- `certify.certify`: the best bound within the effort
- `dual.ascend`, `dual.Certificate`: Polyak's steps on the dual
- `cutting.tighten`: cutting planes
- `columns.list_columns`: minimal helper sets of every token
- `closing.close_gap`: an integer program over what remains
"""
