"""The receiver: finds bursts in a stream of samples and decodes each block when it has arrived.

- `receiver.Receiver`: samples in, receptions out; no radio, no thread, no clock.
- `reception.Reception`: payload and what was measured: response, noise, offset, EVM.
- `acquisition.Acquisition`: detection, timing and coarse carrier offset.
- `opening.open_burst`: response, carrier offset and header at the start of a burst.
- `payload.PayloadReader`: blocks in turn; decided blocks serve as pilots for the next.
- `memory.SoftMemory`: soft bits of payloads that lack blocks, for retransmissions.
- `response`, `tracking`, `windows`: 16-tap fit, common phase, cutting of symbols.
"""
