"""Results as tables, sentences and pages.

- `report.write_report`: figures and page of a run
- `comparison_table.table_rows`, `comparison_table.source_rows`: tables of policies
- `remarks.remarks`: sentences that must stand under such a table
- `energy_tables.air_table`, `energy_tables.board_table`: energies of a ledger
- `profile_tables.layer_table`: a similarity profile
- `page.write_page`: a self-contained HTML page
- `quantities.si`, `quantities.quantity`: values with SI prefix and uncertainty
"""
