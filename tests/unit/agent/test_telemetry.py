from siftmoe.agent.telemetry import Telemetry, temperatures


def test_counters_uptime_and_memory():
    telemetry = Telemetry(started_s=10.0)
    telemetry.count("served")
    telemetry.count("rows", 5)
    telemetry.count("rows", 2)
    figures = telemetry.figures(now_s=12.5, queued=3)
    assert figures["served"] == 1
    assert figures["rows"] == 7
    assert figures["uptime_s"] == 2.5
    assert figures["queued"] == 3
    assert figures["memory_bytes"] > 1e6


def test_temperatures_leave_out_what_cannot_be_read(tmp_path):
    for number, (kind, value) in enumerate([("CPU", "45250"), ("GPU", "junk"), ("SOC", None)]):
        zone = tmp_path / f"thermal_zone{number}"
        zone.mkdir()
        (zone / "type").write_text(kind + "\n")
        if value is not None:
            (zone / "temp").write_text(value)
    assert temperatures(tmp_path) == {"CPU": 45.25}
    assert temperatures(tmp_path / "none") == {}
