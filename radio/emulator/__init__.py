"""Emulated ADALM-Plutos: libiio's network protocol (IIOD) in front of one simulated air.

The air runs in real time. Clients of a real Pluto work unchanged.

- `launch.EmulatedPlutos`: emulated Plutos in a child process, for tests and tools.
- `config.AirConfig`, `config.load_air`: the file that describes an air.
- `assembly.Emulation`: all devices of a configuration, each behind its address.
- `serve.serve`: runs an emulation until it is stopped.
- `control.ControlServer`: changes an air while it runs.
- `device`: one emulated device: transceiver, converters, buffers.
- `iiod`: the network protocol.
"""
