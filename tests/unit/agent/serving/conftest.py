"""A served agent for the tests of the server."""

import pytest
from bundles import write_bundle
from served_agent import SHAPE, Bench


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("bundle") / "plain", SHAPE)


@pytest.fixture
def bench(folder):
    bench = Bench(folder)
    yield bench
    bench.close()
