"""Flashing of boards over SSH: builds a release, pushes it, tests it, switches to it.

- `site.Site`: a testbed with everything its releases are made of
- `rollout.Rollout`, `rollout.Outcome`: flashes boards in batches; the result of a board
- `progress.Bars`: progress bars of a rollout
- `login.open_link`, `link.BoardLink`: logs in to a board; the session
- `address.SshAddress`: user, host and port of a board
- `preflight.Preflight`: checks a board before anything is built
- `push.missing`, `push.stream`: the files that are sent
- `boards.command`, `boards.command_all`: one command on boards
- `health.ask`: asks a flashed agent over the network
- `keys.make_keys`: the testbed's CURVE keys
- `building`: releases on the workstation; `onboard`: the program on a board
"""
