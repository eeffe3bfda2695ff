"""A simulated air that several radios share, and radios on it.

- `air.Air`: the medium: directed fading paths and one sample clock.
- `front_end.DeviceModel`, `front_end.convert`: oscillator, noise, full-scale powers, converter.
- `impairments.Impairments`, `impairments.Interferer`: imperfections of a device.
- `propagation.propagated`: a transmission's field at a receiver.
- `radio.SimulatedRadio`: one device of an air behind the ``Radio`` protocol.
- `transmission.Transmission`: samples that a device repeats.
- `timeline.Timeline`: a value that changes at known sample clocks.
"""
