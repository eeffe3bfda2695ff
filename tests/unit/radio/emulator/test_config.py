"""The configuration file of an air."""

from __future__ import annotations

import re

import numpy as np
import pytest

from siftmoe.radio.emulator.assembly import Emulation
from siftmoe.radio.emulator.config import default_air, load_air
from siftmoe.radio.emulator.control import Controls

TWO = '[[device]]\nname = "a"\n[[device]]\nname = "b"\nppm = -3.0\n'
LINK = '[[link]]\nbetween = ["a", "b"]\ngain_db = -60.0\n'


def _load(tmp_path, text):
    path = tmp_path / "air.toml"
    path.write_text(text)
    return load_air(path)


def test_a_file_becomes_an_air(tmp_path):
    text = f'seed = 3\n{TWO}{LINK}taps_db = [0.0, -3.0]\nfading = "jakes"\n'
    config = _load(tmp_path, text)
    assert config.link[0].directions == (("a", "b"), ("b", "a"))
    emulation = Emulation(config, port=0)
    try:
        assert [s.uri.split(":")[1] for s in emulation.servers.values()] == [
            "127.0.1.1",
            "127.0.1.2",
        ]
        # both directions of a pair fade alike
        assert emulation.gain("a", "b") == pytest.approx(emulation.gain("b", "a"), rel=0.05)
        assert emulation.gain("a", "b") != pytest.approx(1e-6, rel=1e-3)
    finally:
        emulation.close()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "device"),
        ('[[device]]\nname = "a"\nppn = 1.0\n', "ppn"),
        ('[[device]]\nname = "a"\nppm = 1000.0\n', "ppm"),
        ('[[device]]\nname = "a"\naddress = "192.168.2.1"\n', "address"),
        ('[[device]]\nname = "a"\n[[device]]\nname = "a"\n', "more than one"),
        (TWO + '[[link]]\nbetween = ["a", "c"]\ngain_db = -60.0\n', "no .*device.*: c"),
        (TWO + '[[link]]\nbetween = ["a", "a"]\ngain_db = -60.0\n', "two devices"),
        (TWO + '[[link]]\nbetween = ["a", "b"]\n', "gain_db"),
        (TWO + '[[link]]\ntransmitter = "a"\ngain_db = -60.0\n', "receiver"),
        (TWO + LINK + 'transmitter = "a"\nreceiver = "b"\n', "either"),
        (TWO + LINK + "distance_m = 3.0\n", "either"),
        ("seed = ", "air.toml"),
    ],
)
def test_a_mistake_is_named(tmp_path, text, complaint):
    with pytest.raises(ValueError, match=complaint):
        _load(tmp_path, text)


def test_defaults_give_every_device_its_own_oscillator():
    config = default_air(4, gain_db=-80.0)
    assert len({entry.ppm for entry in config.device}) == 4
    assert len(config.link) == 6
    with pytest.raises(ValueError, match="from 1 to 64"):
        default_air(0)


@pytest.fixture
def controls():
    emulation = Emulation(default_air(3), port=0)
    yield Controls(emulation)
    emulation.close()


def _ask(controls, line):
    return controls.answer(line.encode())


def test_a_link_changes_in_one_direction_or_both(controls):
    def gain(transmitter, receiver):
        pair = f'"transmitter": "{transmitter}", "receiver": "{receiver}"'
        return float(_ask(controls, f'{{"do": "gain", {pair}}}').split(b":")[1].rstrip(b"}\n"))

    ends = '"transmitter": "pluto-0", "receiver": "pluto-2"'
    assert _ask(controls, f'{{"do": "set_gain", {ends}, "gain_db": -90, "both": false}}') == (
        b'{"result":null}\n'
    )
    gains_db = [
        10 * np.log10(gain(*pair)) for pair in (("pluto-0", "pluto-2"), ("pluto-2", "pluto-0"))
    ]
    assert gains_db == pytest.approx([-90.0, -70.0], abs=0.01)
    entry = '"between": ["pluto-0", "pluto-2"], "distance_m": 10.0'
    _ask(controls, f'{{"do": "link", {entry}}}')
    # 40.05 dB at 1 m and 2.4 GHz, 30 dB per decade
    assert 10 * np.log10(gain("pluto-2", "pluto-0")) == pytest.approx(-70.05, abs=0.01)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{", "malformed|truncated"),
        ("[]", "dict|object"),
        ("{}", "unknown action"),
        ('{"do": "fly"}', "there are: state"),
        ('{"do": "gain", "transmitter": "pluto-0"}', "receiver"),
        ('{"do": "drop", "name": "pluto-9"}', "no device"),
        ('{"do": "link", "between": ["pluto-0", "pluto-1"], "gain_db": 1e9}', "gain_db"),
    ],
)
def test_a_wrong_request_is_answered_with_what_is_wrong(controls, line, complaint):
    answer = _ask(controls, line).decode()
    assert answer.startswith('{"error":')
    assert re.search(complaint, answer)
