from __future__ import annotations

from pathlib import Path

import pytest

from siftmoe.coordinator.air.assembly import token_deadline_s
from siftmoe.coordinator.config.entries import AgentEntry
from siftmoe.coordinator.config.testbed import load_testbed
from siftmoe.coordinator.errors import ConfigError

AGENT = '[[agent]]\nname = "a"\naddress = "tcp://10.0.0.1:5555"\n'
MINIMAL = f'[model]\nbundle = "m.bundle"\n{AGENT}'

FULL = """
[model]
bundle = "/models/m.bundle"

[policy]
name = "siftmoe"
options = { tolerance = 0.05, kind = "average" }

[radio]
bandwidth_hz = 1e6
deadline_s = 0.01
tx_power_limit_w = 0.5
noise_figure_db = 5
bits = 32
downlink_price = 1.0
fading = "rician"
rician_k_db = 3.0
coherence_time_s = 0.05
fading_process = "jakes"
path_loss_exponent = 2.0
carrier_hz = 5e9
gain_floor = 0.05
seed = 7

[[agent]]
name = "bench-1"
address = "tcp://[::1]:5555"
experts = [[0, 1], [2, 3]]
memory_bytes = 1000000
distance_m = 4
radio = "ip:192.168.2.1"
ssh = "root@bench-1"

[[agent]]
name = "bench-2"
address = "ipc:///run/siftmoe.sock"
experts = "0:1,0:2"
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "testbed.toml"
    path.write_text(text, encoding="utf-8")
    return path


def message(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_testbed(write(folder, text))
    assert "testbed.toml" in str(caught.value)
    return str(caught.value)


def test_everything_that_can_be_said_is_read(tmp_path: Path) -> None:
    testbed = load_testbed(write(tmp_path, FULL))
    assert testbed.model.bundle == "/models/m.bundle"
    assert testbed.policy.options == {"tolerance": 0.05, "kind": "average"}
    assert testbed.radio.bandwidth_hz == 1e6
    assert testbed.radio.bits == 32
    assert testbed.radio.gain_floor == 0.05
    first, second = testbed.agent
    assert first.expert_list(num_layers=4, num_experts=4) == ((0, 1), (2, 3))
    assert first.ssh == "root@bench-1"
    assert second.expert_list(num_layers=4, num_experts=4) == ((0, 1), (0, 2))


def test_defaults_are_the_papers_operating_point(tmp_path: Path) -> None:
    testbed = load_testbed(write(tmp_path, MINIMAL))
    deadline_s = token_deadline_s(testbed.radio, 4096)
    assert testbed.radio.bandwidth_hz * deadline_s == pytest.approx(4096 * 16 / 0.443, rel=1e-3)
    assert token_deadline_s(testbed.radio, 128) == pytest.approx(deadline_s / 32)
    assert testbed.radio.carrier_hz == 2.45e9
    assert testbed.agent[0].expert_list(num_layers=4, num_experts=4) is None
    assert testbed.policy.name == "topk"


def test_a_relative_bundle_lies_beside_the_file(tmp_path: Path) -> None:
    assert load_testbed(write(tmp_path, MINIMAL)).model.bundle == str(tmp_path / "m.bundle")


def test_a_typo_names_its_table_and_the_key_that_was_meant(tmp_path: Path) -> None:
    text = message(tmp_path, MINIMAL + "[radio]\nbandwith_hz = 1e6\n")
    assert "radio: unknown key 'bandwith_hz'; did you mean 'bandwidth_hz'?" in text


def test_a_typo_in_an_agent_names_which_agent(tmp_path: Path) -> None:
    text = message(tmp_path, MINIMAL + AGENT + 'adress = "tcp://b:1"\n')
    assert "agent[1]: unknown key 'adress'; did you mean 'address'?" in text


def test_an_unknown_table_lists_the_known_ones(tmp_path: Path) -> None:
    assert "unknown key 'zzz'; known are model, policy, radio, " in message(
        tmp_path, MINIMAL + "[zzz]\n"
    )


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("bandwidth_hz = 2", "radio.bandwidth_hz: Expected `float` >= 1000.0"),
        ("deadline_s = 0", "radio.deadline_s: Expected `float` > 0.0"),
        ("deadline_s = 74", "radio.deadline_s: Expected `float` <= 60.0"),
        ("tx_power_limit_w = inf", "radio.tx_power_limit_w: Expected `float` <= 1000000000000.0"),
        ('fading = "nakagami"', "radio.fading: Invalid enum value 'nakagami'"),
        ('seed = "x"', "radio.seed: Expected `int`, got `str`"),
        ("gain_floor = 1.0", "radio.gain_floor: Expected `float` < 1.0"),
        ("coherence_time_s = nan", "radio.coherence_time_s"),
    ],
)
def test_a_value_out_of_bounds_names_its_place(tmp_path: Path, line: str, expected: str) -> None:
    assert expected in message(tmp_path, f"{MINIMAL}[radio]\n{line}\n")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("layer_deadline_s = 0.01", "faults.layer_deadline_s: Expected `float` >= 0.02"),
        ("layer_deadline_s = 7200", "faults.layer_deadline_s: Expected `float` <= 3600.0"),
        ("layer_deadline = 1", "unknown key 'layer_deadline'; did you mean 'layer_deadline_s'?"),
        ("cool_k = 0", "faults.cool_k: Expected `float` >= 0.5"),
        ('avoid_hot = "no"', "faults.avoid_hot: Expected `bool`, got `str`"),
    ],
)
def test_what_is_said_of_faults_is_checked(tmp_path: Path, line: str, expected: str) -> None:
    assert expected in message(tmp_path, f"{MINIMAL}[faults]\n{line}\n")


def test_hot_boards_are_avoided_and_a_layer_has_30_s_unless_told_otherwise(tmp_path: Path) -> None:
    usual = load_testbed(write(tmp_path, MINIMAL)).faults
    assert (usual.layer_deadline_s, usual.avoid_hot, usual.cool_k) == (30.0, True, 5.0)
    told = f"{MINIMAL}[faults]\nlayer_deadline_s = 2\navoid_hot = false\n"
    assert not load_testbed(write(tmp_path, told)).faults.avoid_hot


@pytest.mark.parametrize(
    "address",
    ["10.0.0.1:5555", "tcp://host", "tcp://:5555", "http://host:1", "ipc://", "tcp://a b:1"],
)
def test_an_address_that_is_none_is_refused(tmp_path: Path, address: str) -> None:
    text = MINIMAL.replace("tcp://10.0.0.1:5555", address)
    assert "agent[0].address: expected tcp://HOST:PORT or ipc://PATH" in message(tmp_path, text)


@pytest.mark.parametrize("experts", ['"0:1;0:2"', '"0"', '""', '"all"', "[]", "[[0, 1], [0, 1]]"])
def test_experts_that_are_none_are_refused(tmp_path: Path, experts: str) -> None:
    text = message(tmp_path, f"{MINIMAL}experts = {experts}\n")
    assert "agent[0]: experts of agent 'a'" in text


@pytest.mark.parametrize(
    ("experts", "place"),
    [("[[0, -1]]", "agent[0].experts[0][1]"), ("[[0]]", "agent[0].experts[0]"), ("5", "experts")],
)
def test_experts_of_a_wrong_type_are_refused(tmp_path: Path, experts: str, place: str) -> None:
    assert place in message(tmp_path, f"{MINIMAL}experts = {experts}\n")


@pytest.mark.parametrize("radio", ["192.168.2.1", "ip:", "ip:host:99999", "pluto"])
def test_a_radio_that_is_no_address_is_refused(tmp_path: Path, radio: str) -> None:
    text = message(tmp_path, f'{MINIMAL}radio = "{radio}"\n')
    assert f"agent[0]: radio address '{radio}': expected ip:HOST, ip:HOST:PORT or usb:" in text
    text = message(tmp_path, f'{MINIMAL}[sounding]\nuri = "{radio}"\n')
    assert f"sounding: radio address '{radio}': expected ip:HOST" in text


def test_two_agents_cannot_share_a_name_or_an_address(tmp_path: Path) -> None:
    assert "name of more than one [[agent]]: a" in message(tmp_path, MINIMAL + AGENT)
    other = AGENT.replace('"a"', '"b"')
    assert "address of more than one [[agent]]: tcp://10.0.0.1:5555" in message(
        tmp_path, MINIMAL + other
    )


def test_a_testbed_needs_a_model_and_an_agent(tmp_path: Path) -> None:
    assert "missing required field `model`" in message(tmp_path, AGENT)
    assert "missing required field `agent`" in message(tmp_path, '[model]\nbundle = "m"\n')
    assert "agent: Expected `array` of length >= 1" in message(
        tmp_path, 'agent = []\n[model]\nbundle = "m"\n'
    )


def test_what_is_no_toml_names_the_line(tmp_path: Path) -> None:
    assert "not valid TOML" in message(tmp_path, "[model\n")
    (tmp_path / "testbed.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load_testbed(tmp_path / "testbed.toml")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere.toml' cannot be read: .*No such file"):
        load_testbed(tmp_path / "nowhere.toml")


def test_experts_that_the_model_does_not_have_are_refused() -> None:
    entry = AgentEntry(name="a", address="tcp://a:1", experts="0:1, 1:*")
    assert entry.expert_list(num_layers=2, num_experts=2) == ((0, 1), (1, 0), (1, 1))
    with pytest.raises(ConfigError, match=r"agent 'a': .*1"):
        entry.expert_list(num_layers=2, num_experts=1)
    listed = AgentEntry(name="b", address="tcp://b:1", experts=[(5, 0)])
    with pytest.raises(ConfigError, match=r"agent 'b': .*5"):
        listed.expert_list(num_layers=2, num_experts=2)


def test_an_entry_made_in_code_is_checked_too() -> None:
    with pytest.raises(ValueError, match="one twice"):
        AgentEntry(name="a", address="tcp://a:1", experts=[(1, 1), (1, 1)])
