import subprocess
import sys

import numpy as np

from siftmoe.agent.compute.memory import release_free_memory, resident_memory

FAULTS = """
import ctypes, resource, sys, threading
from siftmoe.agent.compute.memory import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
def work():
    import numpy as np
    for _ in range(4):
        blocks = [np.ones((64, 4096)) for _ in range(4)]
        del blocks
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    for _ in range(20):
        blocks = [np.ones((64, 4096)) for _ in range(4)]  # 2 MiB each
        del blocks
    print(resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before)
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


def test_resident_memory_sees_what_is_touched():
    release_free_memory()  # what others of this process freed would be handed out again
    before = resident_memory()
    block = np.ones(4 << 20)  # 32 MiB
    assert resident_memory() - before > 24 << 20
    del block
    release_free_memory()
    assert resident_memory() - before < 16 << 20


def faults(how):
    run = subprocess.run(
        [sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True
    )
    return int(run.stdout)


def test_a_thread_gets_the_pages_of_its_last_run_again():
    """The difference is that between runs of 256 rows in the compute thread (glibc)."""
    assert faults("keep") < 200
    assert faults("plain") > 5_000
