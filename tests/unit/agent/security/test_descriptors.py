"""The limit of descriptors and the reserve that connections may not use."""

import os
import resource

from limits import descriptor_limit

from siftmoe.agent.security.descriptors import RESERVED, WANTED, is_reserved, raise_limit


def test_the_limit_is_raised_as_far_as_the_system_allows():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with descriptor_limit(256):
        wanted = min(WANTED, hard)
        assert raise_limit() == wanted
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (wanted, hard)
        assert raise_limit() == wanted
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (soft, hard)


def test_a_higher_limit_stays(monkeypatch):
    monkeypatch.setattr("siftmoe.agent.security.descriptors.WANTED", 128)
    with descriptor_limit(256):
        assert raise_limit() == 256


def test_the_last_descriptors_are_reserved():
    with descriptor_limit(1_000):
        assert [is_reserved(n) for n in (3, 999 - RESERVED, 1_000 - RESERVED)] == [
            False,
            False,
            True,
        ]
    with descriptor_limit(100):
        assert [is_reserved(n) for n in (49, 50)] == [False, True]
    with open(os.devnull) as file:
        assert not is_reserved(file.fileno())
