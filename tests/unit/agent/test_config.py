import argparse

import pytest

from siftmoe.agent.config import AgentConfig, select_experts
from siftmoe.agent.errors import ConfigError
from siftmoe.agent.process import command


def select(text):
    return select_experts(text, num_layers=3, num_experts=4)


def test_selections():
    assert select("0:3") == ((0, 3),)
    assert select("1:*") == ((1, 0), (1, 1), (1, 2), (1, 3))
    assert select("*:0") == ((0, 0), (1, 0), (2, 0))
    assert select("0-1:2-3, 2:0") == ((0, 2), (0, 3), (1, 2), (1, 3), (2, 0))
    assert select("0:1,0:0-1,0:1") == ((0, 0), (0, 1))
    assert len(select("*:*")) == 12


@pytest.mark.parametrize("text", ["", "3", "0:", ":1", "0:a", "0:1;1:1", "0:-1", "0:1-", "0:1,"])
def test_a_malformed_selection_is_named(text):
    with pytest.raises(ConfigError, match="is not LAYERS:EXPERTS"):
        select(text)


@pytest.mark.parametrize(
    ("text", "what"), [("3:0", "3 layers, 0 to 2"), ("0:4", "4 experts"), ("0:2-1", "4 experts")]
)
def test_a_selection_beyond_the_model_is_named(text, what):
    with pytest.raises(ConfigError, match=what):
        select(text)


def test_settings_go_through_the_command_line():
    config = AgentConfig(
        bundle="x y.bundle", experts="0:1,1:*", name="--odd", threads=2, insecure=True
    )
    parser = argparse.ArgumentParser()
    command.configure(parser)
    args = parser.parse_args(config.arguments())
    given = {name: getattr(args, name) for name in AgentConfig.__struct_fields__}
    assert AgentConfig.from_options(given) == config


@pytest.mark.parametrize(
    ("option", "value"),
    [("threads", -1), ("threads", "two"), ("queue_limit", 0), ("name", ""), ("idle_s", -1)],
)
def test_a_setting_out_of_bounds_is_named(option, value):
    with pytest.raises(ConfigError, match=option):
        AgentConfig.from_options({"bundle": "b", option: value})


def test_an_unknown_setting_is_named():
    with pytest.raises(ConfigError, match="treads"):
        AgentConfig.from_options({"bundle": "b", "treads": 1})


def test_zero_threads_are_all_cores():
    assert AgentConfig(bundle="b").num_threads >= 1
    assert AgentConfig(bundle="b", threads=3).num_threads == 3


def test_widths_are_all_or_a_list_that_old_peers_understand():
    def widths(text):
        return AgentConfig(bundle="b", widths=text).width_list()

    assert widths("all") == (2, 3, 4, 5, 6, 8, 16, 32)
    assert widths("32,16,8") == (8, 16, 32)
    for text in ("8", "16", "all,16", "16,32,7", "16,32,", "16, 32"):
        with pytest.raises(ConfigError, match=f"widths '{text}': must be all, or some of 2, 3, 4"):
            widths(text)
