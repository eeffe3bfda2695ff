"""The device ``ad9361-phy``: the attributes of a Pluto's transceiver."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from siftmoe.radio.emulator.device.transceiver import GAIN_MODES, Transceiver
from siftmoe.radio.emulator.device.tree import Attribute, Channel, Device, IioError

if TYPE_CHECKING:
    from collections.abc import Callable

    from siftmoe.radio.emulator.device.identity import Identity

_TRACKING = ("bb_dc_offset_tracking_en", "quadrature_tracking_en", "rf_dc_offset_tracking_en")


def phy_device(
    chip: Transceiver, *, identity: Callable[[], Identity], rssi_db: Callable[[], float]
) -> Device:
    """Describe the transceiver.

    Parameters
    ----------
    chip : Transceiver
    identity : callable
        Returns the device's identity; its temperature may change.
    rssi_db : callable
        Reading of the chip's power meter: dB below an unknown reference.
    """
    return Device(
        id="iio:device0",
        name="ad9361-phy",
        channels=(
            _synthesiser(chip, transmit=True, powerdown=identity().lo_powerdown),
            _receive_channel(chip, rssi_db),
            _synthesiser(chip, transmit=False, powerdown=identity().lo_powerdown),
            *_temperature_channel(identity),
            _transmit_channel(chip),
            _filter_channel(chip),
        ),
        attributes=_device_attributes(chip),
        debug_attributes=(Attribute("loopback", "loopback", lambda: "0", _no_loopback),),
    )


def _temperature_channel(identity: Callable[[], Identity]) -> tuple[Channel, ...]:
    def read() -> str:
        kind = identity().temperature_reading
        if kind == "error":
            raise IioError(errno.EIO)
        return "n/a" if kind == "text" else str(round(1000.0 * identity().temperature_c))

    if identity().temperature_reading == "absent":
        return ()
    return (Channel("temp0", False, (_show("input", "in_temp0", read),)),)


def _no_loopback(text: str) -> None:
    if text.strip() != "0":
        raise IioError(errno.EINVAL)


def _gone() -> str:
    raise IioError(errno.ENODEV)


def _show(name: str, prefix: str, read: Callable[[], str]) -> Attribute:
    return Attribute(name, f"{prefix}_{name}", read)


def _limits(low: float, step: float, high: float) -> str:
    return f"[{low} {step} {high}]"


def _synthesiser(chip: Transceiver, *, transmit: bool, powerdown: bool) -> Channel:
    index, name = (1, "TX_LO") if transmit else (0, "RX_LO")
    prefix = f"out_altvoltage{index}_{name}"

    def frequency() -> str:
        return str(chip.tx_lo_hz if transmit else chip.rx_lo_hz)

    switch = Attribute(
        "powerdown",
        f"{prefix}_powerdown",
        lambda: str(int(chip.tx_off if transmit else chip.rx_off)),
        lambda text: chip.set_powerdown(text, transmit=transmit),
    )
    return Channel(
        f"altvoltage{index}",
        True,
        (
            _show("external", prefix, lambda: "0"),
            Attribute(
                "frequency",
                f"{prefix}_frequency",
                frequency,
                lambda text: chip.set_lo(text, transmit=transmit),
            ),
            _show(
                "frequency_available",
                prefix,
                lambda: _limits(chip.lo_range[0], 1, chip.lo_range[1]),
            ),
            *((switch,) if powerdown else ()),
        ),
        name=name,
    )


def _receive_channel(chip: Transceiver, rssi_db: Callable[[], float]) -> Channel:
    prefix = "in_voltage0"
    return Channel(
        "voltage0",
        False,
        (
            *_shared(chip, direction="in"),
            Attribute(
                "gain_control_mode",
                f"{prefix}_gain_control_mode",
                lambda: chip.gain_mode,
                chip.set_gain_mode,
            ),
            _show("gain_control_mode_available", prefix, lambda: " ".join(GAIN_MODES)),
            Attribute(
                "hardwaregain",
                f"{prefix}_hardwaregain",
                lambda: f"{chip.gain_db:.6f} dB",
                chip.set_gain,
            ),
            _show(
                "hardwaregain_available",
                prefix,
                lambda: _limits(chip.gain_range[0], 1, chip.gain_range[1]),
            ),
            _bandwidth(chip, transmit=False),
            _show("rf_bandwidth_available", "in_voltage", lambda: "[200000 1 56000000]"),
            _show("rf_port_select", prefix, lambda: "A_BALANCED"),
            _show("rssi", prefix, lambda: f"{rssi_db():.2f} dB"),
            *(_switch(chip, "in_voltage", name) for name in _TRACKING),
        ),
    )


def _transmit_channel(chip: Transceiver) -> Channel:
    prefix = "out_voltage0"
    return Channel(
        "voltage0",
        True,
        (
            *_shared(chip, direction="out"),
            Attribute(
                "hardwaregain",
                f"{prefix}_hardwaregain",
                lambda: f"{-chip.attenuation_mdb / 1000.0:.6f} dB",
                chip.set_attenuation,
            ),
            _show("hardwaregain_available", prefix, lambda: "[-89.750000 0.250000 0.000000]"),
            _bandwidth(chip, transmit=True),
            _show("rf_bandwidth_available", "out_voltage", lambda: "[200000 1 40000000]"),
            _show("rf_port_select", prefix, lambda: "A"),
            # the power monitor works in time division only, which a Pluto does not use
            _show("rssi", prefix, lambda: "0.00 dB"),
        ),
    )


def _filter_channel(chip: Transceiver) -> Channel:
    attribute = Attribute(
        "voltage_filter_fir_en",
        "in_out_voltage_filter_fir_en",
        lambda: str(int(chip.fir_enabled)),
        chip.set_fir_enabled,
    )
    return Channel("out", False, (attribute,))


def _shared(chip: Transceiver, *, direction: str) -> tuple[Attribute, ...]:
    prefix = f"{direction}_voltage"
    return (
        Attribute(
            "filter_fir_en",
            f"{prefix}_filter_fir_en",
            lambda: str(int(chip.fir_enabled)),
            chip.set_fir_enabled,
        ),
        Attribute(
            "sampling_frequency",
            f"{prefix}_sampling_frequency",
            lambda: str(chip.read_rate_hz),
            chip.set_rate,
        ),
        _show(
            "sampling_frequency_available",
            prefix,
            lambda: _limits(chip.rate_range[0], 1, chip.rate_range[1]),
        ),
    )


def _bandwidth(chip: Transceiver, *, transmit: bool) -> Attribute:
    def read() -> str:
        return str(chip.tx_bandwidth_hz if transmit else chip.rx_bandwidth_hz)

    return Attribute(
        "rf_bandwidth",
        f"{'out' if transmit else 'in'}_voltage_rf_bandwidth",
        read,
        lambda text: chip.set_bandwidth(text, transmit=transmit),
    )


def _switch(chip: Transceiver, prefix: str, name: str) -> Attribute:
    return Attribute(
        name, f"{prefix}_{name}", lambda: chip.flag(name), lambda text: chip.set_flag(name, text)
    )


def _device_attributes(chip: Transceiver) -> tuple[Attribute, ...]:
    def plain(name: str, read: Callable[[], str]) -> Attribute:
        return Attribute(name, name, read)

    return (
        plain("calib_mode", lambda: chip.calib_mode),
        plain("calib_mode_available", lambda: "auto manual manual_tx_quad tx_quad rf_dc_offs"),
        # a Pluto has no crystal on these pins
        plain("dcxo_tune_coarse", _gone),
        plain("dcxo_tune_fine", _gone),
        Attribute("ensm_mode", "ensm_mode", lambda: chip.ensm_mode, chip.set_ensm),
        plain("ensm_mode_available", lambda: "sleep wait alert fdd"),
        Attribute("filter_fir_config", "filter_fir_config", chip.fir_summary, chip.load_fir),
        plain("rx_path_rates", lambda: chip.path_rates(transmit=False)),
        plain("trx_rate_governor", lambda: chip.governor),
        plain("trx_rate_governor_available", lambda: "nominal highest_osr"),
        plain("tx_path_rates", lambda: chip.path_rates(transmit=True)),
        Attribute(
            "xo_correction",
            "xo_correction",
            lambda: str(chip.xo_correction_hz),
            chip.set_xo_correction,
        ),
        plain("xo_correction_available", lambda: "[39992000 1 40008000]"),
    )
