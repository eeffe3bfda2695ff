import time

from limits import no_free_descriptor

from siftmoe.agent.board.heat import OLDEST_S, REFRESH_S, Heat, Thermometer, read_heat


def write(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")


def zone(number, kind, temp, **trips):
    folder = f"class/thermal/thermal_zone{number}"
    files = {f"{folder}/type": kind, f"{folder}/temp": temp}
    for place, (trip, value) in enumerate(trips.items()):
        files[f"{folder}/trip_point_{place}_type"] = trip
        files[f"{folder}/trip_point_{place}_temp"] = value
    return files


def cooling(number, kind, now, most):
    folder = f"class/thermal/cooling_device{number}"
    return {f"{folder}/type": kind, f"{folder}/cur_state": now, f"{folder}/max_state": most}


def test_nothing_is_claimed_where_no_descriptor_is_free(tmp_path):
    write(tmp_path, zone(0, "cpu", 50_000))
    with no_free_descriptor():
        assert read_heat(tmp_path) == Heat()
    assert read_heat(tmp_path).temperature_c == {"cpu": 50.0}


def test_nothing_is_claimed_where_nothing_can_be_read(tmp_path):
    assert read_heat(tmp_path) == Heat()


def test_zones_and_where_they_slow_the_board_down(tmp_path):
    write(tmp_path, zone(0, "CPU-therm", 45250, active=50000, passive=99000, critical=104500))
    write(tmp_path, zone(1, "GPU-therm", "junk", passive=99000))
    write(tmp_path, zone(2, "SOC0-therm", 61000, passive=-273150, hot=0))
    write(tmp_path, zone(3, "CPU-therm", 47000, critical=98000))
    heat = read_heat(tmp_path)
    assert heat.temperature_c == {"CPU-therm": 47.0, "SOC0-therm": 61.0}
    assert heat.limit_c == {"CPU-therm": 98.0}


def test_what_slows_the_board_down_now(tmp_path):
    write(tmp_path, cooling(0, "pwm-fan", 3, 3))  # a fan cools without slowing
    write(tmp_path, cooling(1, "cpu-throttle-alert", 0, 1))
    write(tmp_path, cooling(2, "thermal-cpufreq-0", 5, 20))
    write(tmp_path, cooling(3, "intel_powerclamp", -1, 50))
    write(tmp_path, cooling(4, "Processor", 1, 10))
    write(tmp_path, cooling(5, "Processor", 4, 10))
    write(tmp_path, cooling(6, "TCC Offset", 10, 63))  # a setting
    write(tmp_path, cooling(7, "devfreq-17000000.gpu", 2, "junk"))
    assert read_heat(tmp_path).throttling == {
        "cpu-throttle-alert": 0.0,
        "thermal-cpufreq-0": 0.25,
        "intel_powerclamp": 0.0,
        "Processor": 0.4,
    }


def test_events_are_those_of_who_has_most(tmp_path):
    folder = "devices/system/cpu"
    write(tmp_path, {f"{folder}/cpu0/thermal_throttle/core_throttle_count": 3})
    write(tmp_path, {f"{folder}/cpu11/thermal_throttle/core_throttle_count": 17})
    write(tmp_path, {f"{folder}/cpu11/thermal_throttle/package_throttle_count": 5})
    assert read_heat(tmp_path).counters == {"throttle_events": 17.0}
    write(tmp_path, {"class/hwmon/hwmon2/oc1_event_cnt": 0, "class/hwmon/hwmon2/oc3_event_cnt": 2})
    assert read_heat(tmp_path).counters == {"throttle_events": 17.0, "overcurrent_events": 2.0}


def until(condition):
    end_s = time.monotonic() + 20.0
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.005)


def test_it_is_read_at_most_once_a_second_and_by_the_next_question(tmp_path):
    now_s = 5.0
    thermometer = Thermometer(tmp_path, clock=lambda: now_s)
    write(tmp_path, zone(0, "CPU", 40000))
    assert thermometer.read().temperature_c == {"CPU": 40.0}
    write(tmp_path, zone(0, "CPU", 80000))
    assert thermometer.read().temperature_c == {"CPU": 40.0}
    now_s += REFRESH_S
    thermometer.read()  # is not made to wait
    until(lambda: thermometer.read().temperature_c == {"CPU": 80.0})


def test_who_was_not_asked_for_long_reads_before_it_answers(tmp_path):
    now_s = 5.0
    thermometer = Thermometer(tmp_path, clock=lambda: now_s)
    write(tmp_path, zone(0, "CPU", 40000))
    assert thermometer.read().temperature_c == {"CPU": 40.0}
    write(tmp_path, zone(0, "CPU", 80000))
    now_s += OLDEST_S
    assert thermometer.read().temperature_c == {"CPU": 80.0}
