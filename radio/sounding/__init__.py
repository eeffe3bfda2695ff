"""Channel sounding: the burst, its detection, its estimators, and the exchange of two radios.

A transmitter repeats a known burst; a receiver finds it and estimates gain, noise and CFO.

- `pilots.burst_waveform`: the burst, and the layout of its segments.
- `signal.Pilot`, `signal.transmit_pilot`: the burst as a radio repeats it.
- `sync.Search`, `sync.acquire`: detection, timing and coarse CFO.
- `estimation.estimate`: response, gain, noise and CFO of detected bursts.
- `checks.check`, `checks.Checks`: plausibility of the estimates: power contrast, lack of fit.
- `reading.read`: search, estimates and checks of the bursts of a capture.
- `bounds`: Cramér-Rao bounds and the detection curve.
- `sounder.hear`, `sounder.sound`, `sounder.Sounding`: one exchange
"""
