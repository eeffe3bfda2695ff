"""The user's device: runs the backbone, selects helpers and experts, books the energy.

For use from Python: `connect.connect` opens a testbed. A forward pass goes through the rooms model,
layer, selection, policies, air, dispatch and client, and is booked by ledger.

- `connect.connect`: a coordinator on the running agents of a testbed file
- `coordinator.Coordinator`: serves the expert layers of an attached model
- `board_energy.board_energy`: books the boards' energy during a block
- `clock.VirtualClock`, `clock.RealClock`: time of a run
- `errors.CoordinatorError`: root of the coordinator's errors
"""
