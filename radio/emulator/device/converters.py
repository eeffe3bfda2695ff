"""The two streaming devices: ``cf-ad9361-lpc`` receives, ``cf-ad9361-dds-core-lpc`` transmits."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from siftmoe.radio.emulator.device.tree import Attribute, Channel, Device, IioError

if TYPE_CHECKING:
    from siftmoe.radio.emulator.device.tones import Tones
    from siftmoe.radio.emulator.device.transceiver import Transceiver

RX_DEVICE = "cf-ad9361-lpc"
TX_DEVICE = "cf-ad9361-dds-core-lpc"
#: The FPGA can divide the rate once more.
_FPGA_FACTOR = 8


def converter_devices(
    chip: Transceiver, tones: Tones, decimation: dict[str, int]
) -> tuple[Device, Device]:
    """Describe transmitter and receiver; ``decimation`` holds the FPGA's factors."""
    transmitter = Device(
        id="iio:device2",
        name=TX_DEVICE,
        channels=(
            *(_channel(chip, decimation, index=index, output=True) for index in range(2)),
            *tones.channels(),
        ),
        attributes=(Attribute("waiting_for_supplier", "waiting_for_supplier", lambda: "0"),),
        buffer_attributes=(_watermark(), _available()),
    )
    receiver = Device(
        id="iio:device3",
        name=RX_DEVICE,
        channels=tuple(_channel(chip, decimation, index=index, output=False) for index in range(2)),
        attributes=(Attribute("waiting_for_supplier", "waiting_for_supplier", lambda: "0"),),
        buffer_attributes=(_watermark(), _available()),
    )
    return transmitter, receiver


def _watermark() -> Attribute:
    return Attribute("watermark", "watermark", lambda: "2048")


def _available() -> Attribute:
    return Attribute("data_available", "data_available", lambda: "0")


def _gone() -> str:
    raise IioError(errno.ENODEV)


def _channel(chip: Transceiver, decimation: dict[str, int], *, index: int, output: bool) -> Channel:
    side, direction = ("tx", "out") if output else ("rx", "in")

    def rate() -> str:
        return str(chip.rate_hz // decimation[side])

    def set_rate(text: str) -> None:
        for factor in (1, _FPGA_FACTOR):
            if text.strip() == str(chip.rate_hz // factor):
                decimation[side] = factor
                return
        raise IioError(errno.EINVAL)

    prefix = f"{direction}_voltage"
    attributes = [
        Attribute("calibphase", f"{prefix}{index}_calibphase", lambda: "0.000000"),
        Attribute("calibscale", f"{prefix}{index}_calibscale", lambda: "1.000000"),
        Attribute("sampling_frequency", f"{prefix}_sampling_frequency", rate, set_rate),
        Attribute(
            "sampling_frequency_available",
            f"{prefix}_sampling_frequency_available",
            lambda: f"{chip.rate_hz} {chip.rate_hz // _FPGA_FACTOR} ",
        ),
    ]
    if not output:
        attributes.insert(0, Attribute("calibbias", f"in_voltage{index}_calibbias", lambda: "0"))
        attributes.append(Attribute("samples_pps", "in_voltage_samples_pps", _gone))
    return Channel(
        f"voltage{index}",
        output,
        tuple(attributes),
        scan_index=index,
        sample_format="le:S16/16>>0" if output else "le:S12/16>>0",
    )
