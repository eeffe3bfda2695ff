from limits import no_free_descriptor

from siftmoe.agent.service.telemetry import Telemetry, board_memory


def test_counters_uptime_and_memory():
    telemetry = Telemetry(started_s=10.0)
    telemetry.count("served")
    telemetry.count("rows", 5)
    telemetry.count("rows", 2)
    figures = telemetry.figures(now_s=12.5, waiting={"queued": 3.0})
    assert figures["served"] == 1
    assert figures["rows"] == 7
    assert figures["uptime_s"] == 2.5
    assert figures["queued"] == 3
    assert 1e6 < figures["memory_bytes"] < figures["board_memory_bytes"]
    assert figures["board_memory_available_bytes"] < figures["board_memory_bytes"]
    assert telemetry.figures(now_s=12.5, waiting={})["cpu_s"] >= figures["cpu_s"] > 0.0


def test_figures_are_told_when_no_descriptor_is_free():
    telemetry = Telemetry(started_s=10.0)
    telemetry.count("served")
    with no_free_descriptor():
        figures = telemetry.figures(now_s=12.5, waiting={"queued": 3.0})
    assert (figures["served"], figures["queued"], figures["uptime_s"]) == (1, 3, 2.5)
    assert "memory_bytes" not in figures


def test_memory_of_the_board(tmp_path):
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:       7990000 kB\nMemFree: 1 kB\nMemAvailable:    512 kB\n")
    assert board_memory(meminfo) == {
        "board_memory_bytes": 7_990_000 * 1_024.0,
        "board_memory_available_bytes": 512 * 1_024.0,
    }
    assert board_memory(tmp_path / "none") == {}
