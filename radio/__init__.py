"""Radio channels, sounding, modem, power calibration, Pluto driver and Pluto emulator.

Rooms, from the lowest floor up:

- `channel`: models of a link: rate, energy, fading, multipath, path loss, ageing of estimates.
- `device`: the ``Radio`` protocol, settings and power reference that all radios share.
- `sounding`: the sounding burst, its detection, its estimators and the exchange of two radios.
- `power`: calibration of transmit and receive power.
- `simulated`: a simulated air and radios on it.
- `pluto`: the driver of the ADALM-Pluto.
- `emulator`: emulated Plutos that speak libiio's network protocol.
- `modem`: bursts of data: LDPC codes, OFDM, transmitter and receiver.
- `opening`: opens a radio by its address.
"""
