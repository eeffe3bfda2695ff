"""One emulated Pluto: its attributes, its buffers, and its place on the air.

- `pluto.EmulatedPluto`: a device of the air behind the attributes and buffers of a Pluto.
- `identity.Identity`: what differs from device to device.
- `transceiver.Transceiver`: state of the AD9363 as its Linux driver keeps it.
- `phy.phy_device`: attributes of ``ad9361-phy``.
- `converters.converter_devices`: attributes of the two streaming devices.
- `tones.Tones`: the four tone generators (DDS).
- `streams.ReceiveStream`, `streams.TransmitStream`: DMA buffers.
- `medium.Medium`: the simulated air on a real clock.
- `tree.Context`, `tree.Device`, `tree.Attribute`: the attribute tree and its XML form.
"""
