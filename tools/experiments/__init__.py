"""Studies: many settings, policies and seeds, computed without sockets and radios.

A study is a set of cells (policy, setting, seed); finished cells are kept, and tables, figures and
a page are made from them.

- `run.run_study`, `run.Options`: runs the missing cells of a study
- `report.report`: writes tables, figures and the page
- `table.rows_of`: one row per cell and task
- `summary.summary_of`: the tables that answer a study's question
- `plots.draw`: figures
- `studies`: the studies by name; `cells`: the work of one cell
"""
