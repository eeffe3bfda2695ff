"""Output on the terminal: consoles, tables and progress bars.

Text of users, files and peers is never taken for Rich markup, and no table is cut.

- `console.stdout_console`, `console.stderr_console`: consoles for the result and for the rest
- `text.readable`: a text without control characters
- `tables.table`: a table that fits the width of its console
- `progress.progress_bar`: a progress bar on stderr
"""
