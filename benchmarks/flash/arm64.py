"""Flashing of an emulated arm64 board; its experts' outputs are compared with those of x86.

    sudo python -m benchmarks.flash.arm64 [--keep FOLDER]

Needs root, debootstrap, systemd-nspawn, a Debian mirror and qemu-aarch64-static registered with
binfmt_misc (flag F; where it is not: mount binfmt_misc -t binfmt_misc /proc/sys/fs/binfmt_misc &&
update-binfmts --enable qemu-aarch64). Builds a userland (once in FOLDER), runs its sshd under
emulation, flashes it with wheels for aarch64, asks every expert for its output, and has vectors of
every width packed and unpacked there, by compiled code and by numpy: the bits must equal those of
this machine. Times are those of an emulated processor, not of a board. onnxruntime 1.32.0 crashes
with a segmentation fault on import under qemu 7.2; 1.23.2 (the newest for JetPack 6.2) does not.
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.flash.needs import call, debootstrap, failure, require
from siftmoe.agent.compute.providers import open_session
from siftmoe.agent.wire.protocol import Apply
from siftmoe.coordinator.client.requests import Client
from siftmoe.coordinator.fleet.agents import Fleet
from siftmoe.tools.cli import main as siftmoe
from siftmoe.tools.flashing.site import Site
from tests.boards import CLIENT, free_port
from tests.bundles import shape_of, write_bundle

PACKAGES = "openssh-server,openssh-client,python3"
PATIENCE_S = 120.0
TOKENS = 16
#: Tolerance: the two machines round to float32 in different order.
TOLERANCE = 1e-5

TESTBED = """\
[model]
bundle = "bundle"
[flash]
service = "supervisor"
start_s = 300
watchdog_s = 60
onnxruntime = "1.23.2"
[[agent]]
name = "arm"
address = "tcp://127.0.0.1:{port}"
experts = "*:*"
ssh = "board"
"""


@contextlib.contextmanager
def board(userland: Path, folder: Path):
    """Run the userland's sshd under emulation; yields what ssh needs to log in."""
    debootstrap("--arch=arm64", "--variant=minbase", f"--include={PACKAGES}", root=userland)
    port = free_port()
    call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "user_key"))
    ssh = userland / "root" / ".ssh"
    ssh.mkdir(mode=0o700, parents=True, exist_ok=True)
    (ssh / "authorized_keys").write_text((folder / "user_key.pub").read_text())
    if not (userland / "etc/ssh/ssh_host_ed25519_key").exists():
        key = userland / "etc/ssh/ssh_host_ed25519_key"
        call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key))
    (userland / "run/sshd").mkdir(exist_ok=True)
    host_key = (userland / "etc/ssh/ssh_host_ed25519_key.pub").read_text().split()[:2]
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {' '.join(host_key)}\n")
    config = folder / "ssh_config"
    config.write_text(CLIENT.format(port=port, folder=folder, user="root"))
    container = ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--as-pid2"]
    sshd = "mkdir -p /run/sshd && exec /usr/sbin/sshd -D"
    command = [*container, f"--directory={userland}", "/bin/sh", "-c", f"{sshd} -p {port}"]
    log = folder / "sshd.log"
    with log.open("w") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        end_s = time.monotonic() + PATIENCE_S
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1.0).close()
                break
            if time.monotonic() > end_s or process.poll() is not None:
                raise RuntimeError(failure(command, process.poll(), log.read_text()))
            time.sleep(0.1)
        yield config
    finally:
        process.kill()
        process.wait()


def largest_difference(site: Site) -> float:
    """Compare every expert's output on the board with that of this machine, as a fraction."""
    bundle = site.bundle()
    shape, worst = bundle.shape, 0.0
    fleet = Fleet([site.agent(0)], shape=shape, model_hash=bundle.model_hash)
    rng = np.random.default_rng(0)
    rows = np.arange(TOKENS, dtype=np.int32)
    with Client(fleet, security=site.security()) as client:
        client.connect(timeout_s=PATIENCE_S)
        for layer in range(shape.num_layers):
            for expert in range(shape.num_experts):
                hidden = rng.standard_normal((TOKENS, shape.hidden_size), np.float32)
                request = Apply(
                    id=client.next_id(),
                    layer=layer,
                    hidden=hidden,
                    pairs=np.stack([rows, np.full_like(rows, expert)], 1),
                    weights=np.ones(TOKENS, np.float32),
                )
                there = client.exchange({0: request}, deadline_s=PATIENCE_S).require()[0].output
                path = bundle.expert_file(layer, expert).path
                here = open_session(path, provider="cpu", threads=1).run(
                    ["output"], {"hidden": hidden}
                )[0]
                worst = max(worst, float(np.abs(there - here).max() / np.abs(here).max()))
    return worst


#: Prints a hash of packed vectors, made of numbers that are the same on every machine.
PACKING = """
import hashlib
import sys
import numpy as np
from siftmoe.models.vectors.fused import choose, read, write
choose(sys.argv[1])
rng, digest = np.random.default_rng(0), hashlib.sha256()
for size in (128, 100, 768):
    rows = rng.integers(-(1 << 23), 1 << 23, (16, size)) * 2.0 ** rng.integers(-30, -10, (16, size))
    rows = rows.astype(np.float32)
    for width in (2, 3, 4, 5, 6, 8):
        for rotation in ("none", "hadamard"):
            records = write(rows, width, rotation=rotation)
            digest.update(records.tobytes())
            back = read(records, [(width, len(rows))], size=size, rotation=rotation)
            digest.update(back.tobytes())
print(digest.hexdigest())
"""


def packed_alike(config: Path) -> bool:
    """Compare vectors packed by the board's compiled code and by numpy with this machine's."""
    found = set()
    for how in ("compiled", "numpy"):
        found.add(call(sys.executable, "-c", PACKING, how))
        release = "/opt/siftmoe/current"
        cache = f"/opt/siftmoe/cache/$(basename $(readlink -f {release}/venv))"
        command = f"NUMBA_CACHE_DIR={cache} {release}/venv/bin/python - {how}"
        found.add(call("ssh", "-F", str(config), "board", command, given=PACKING))
    return len(found) == 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, help="folder of the userland (made if need be)")
    args = parser.parse_args()
    require(emulator="qemu-aarch64")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        config = stack.enter_context(board((args.keep or folder) / "arm64", folder))
        write_bundle(folder / "bundle", shape_of())
        testbed = folder / "testbed.toml"
        testbed.write_text(TESTBED.format(port=free_port()))
        ssh = ["--ssh-config", str(config)]
        start_s = time.monotonic()
        if siftmoe(["keys", str(testbed)]) or siftmoe(["flash", str(testbed), *ssh]):
            return 1
        print(f"flashed under emulation in {time.monotonic() - start_s:.0f} s")
        worst = largest_difference(Site.load(testbed))
        print(f"largest relative difference of an expert's output from x86: {worst:.1e}")
        alike = packed_alike(config)
        print(f"vectors of every width packed and unpacked to the same bits: {alike}")
        siftmoe(["unflash", str(testbed), "arm", *ssh])
    return int(worst > TOLERANCE or not alike)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RuntimeError as error:
        sys.exit(f"error: {error}")
