"""Building of releases on the workstation: wheels, files, manifest, signature.

- `program.board_program`: the program that runs on a board, as one zip file
- `release.build_release`, `release.Release`: the files of one board and their signed manifest
- `counters.Counters`: numbers the releases of each board
- `signing.Signer`: the key that signs releases
- `wheels.wheelhouse`, `wheels.own_wheel`, `wheels.Target`: wheels for a board's Python and machine
"""
