import subprocess
import sys

EVERYTHING = """
import importlib, pkgutil, sys
import siftmoe.agent
for module in pkgutil.walk_packages(siftmoe.agent.__path__, "siftmoe.agent."):
    importlib.import_module(module.name)
print(*sorted(name.partition(".")[0] for name in sys.modules if "." not in name))
"""


def test_the_agent_needs_no_torch():
    """A board has numpy, pyzmq, msgspec and ONNX Runtime, and nothing of the coordinator's."""
    run = subprocess.run(
        [sys.executable, "-c", EVERYTHING], capture_output=True, text=True, check=True
    )
    loaded = set(run.stdout.split())
    assert {"numpy", "zmq", "msgspec"} <= loaded
    assert not loaded & {"torch", "transformers", "onnx", "scipy", "numba", "rich", "matplotlib"}


def test_the_commands_help_is_light():
    code = (
        "import argparse, sys; from siftmoe.tools.commands import agent; "
        "agent.configure(argparse.ArgumentParser()); print(*sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(run.stdout.split()) & {"numpy", "zmq", "onnxruntime", "torch"}
