"""The program on a board, packed into one file; it needs only the board's Python (3.10 or newer).

The workstation uploads it, and each of its commands prints one JSON object.

- `command.main`: the commands
- `releases.Board`: the folders of releases and the switch between them
- `installing.install`: installs a release and runs its self-test
- `self_test`: golden output and radio of a new release
- `services`: systemd or the supervisor; `supervisor`: keeps an agent running without systemd
- `errors.BoardError`: a refused command
"""
