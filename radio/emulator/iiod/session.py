"""The IIOD protocol of libiio 0.24, server side, without sockets: bytes in, replies out.

Commands are lines; ``WRITE`` and ``WRITEBUF`` are followed by as many bytes as they say. Replies
are decimal lines, negative errno on error, then data. Client input is bounded: the length of a
line, of an attribute's value and of a block. `Session.receive` waits only where the real server
waits: for samples to be received or sent.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from siftmoe.radio.emulator.device.streams import ReceiveStream, TransmitStream
from siftmoe.radio.emulator.device.tree import Attribute, IioError, find
from siftmoe.radio.emulator.iiod.syntax import (
    MASK,
    MAX_LINE,
    MAX_VALUE,
    VERSION,
    parse_count,
    reply_line,
    require,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from siftmoe.radio.emulator.device.pluto import EmulatedPluto
    from siftmoe.radio.emulator.device.tree import Device

_GROUPS = {"DEBUG": "debug_attributes", "BUFFER": "buffer_attributes"}


class Session:
    """One connection of a client to a Pluto.

    Parameters
    ----------
    pluto : EmulatedPluto
    alive : callable
        Returns whether the client is still connected; called while waiting.
    """

    def __init__(self, pluto: EmulatedPluto, *, alive: Callable[[], bool]) -> None:
        self._pluto = pluto
        self._alive = alive
        self._input = bytearray()
        self._streams: dict[str, ReceiveStream | TransmitStream] = {}
        self._pending: Callable[[], Iterator[bytes] | None] = self._command
        self._skipping = False
        self.finished = False

    def receive(self, data: bytes) -> Iterator[bytes]:
        """Take bytes from the client and yield the replies to complete commands."""
        self._input += data
        while not self.finished:
            replies = self._pending()
            if replies is None:
                return
            yield from replies

    def close(self) -> None:
        """End the session: its buffers are freed, which stops a transmission."""
        self.finished = True
        while self._streams:
            self._streams.popitem()[1].close()

    def _command(self) -> Iterator[bytes] | None:
        """Run the next line; None if it is not complete yet."""
        end = self._input.find(b"\n")
        if end < 0:
            if len(self._input) > MAX_LINE:
                # too long: skip it up to its end, which has not arrived yet
                self._input.clear()
                self._skipping = True
            return None
        line = bytes(self._input[: end + 1])
        del self._input[: end + 1]
        if self._skipping or len(line) > MAX_LINE or (line[:1].isspace() and line.strip()):
            self._skipping = False
            return iter([reply_line(-errno.EINVAL)])
        return self._run(line.decode("ascii", "replace").split())

    def _run(self, words: list[str]) -> Iterator[bytes]:
        if not words:
            return iter(())
        name = words[0] if words[0].isupper() else words[0].upper() * words[0].islower()
        handler = _COMMANDS.get(name)
        if handler is None:
            return iter([reply_line(-errno.EINVAL)])
        return self._guarded(handler(self, words[1:]))

    @staticmethod
    def _guarded(replies: Iterator[bytes]) -> Iterator[bytes]:
        try:
            yield from replies
        except IioError as error:
            yield reply_line(-error.code)

    def _print(self, words: list[str]) -> Iterator[bytes]:
        require(not words)
        xml = self._pluto.context.xml().encode()
        yield reply_line(len(xml)) + xml + b"\n"

    def _version(self, words: list[str]) -> Iterator[bytes]:
        require(not words)
        yield VERSION

    def _timeout(self, words: list[str]) -> Iterator[bytes]:
        require(len(words) == 1)
        parse_count(words[0])
        yield reply_line(0)

    def _exit(self, words: list[str]) -> Iterator[bytes]:
        require(not words)
        self.close()
        yield b""

    def _read(self, words: list[str]) -> Iterator[bytes]:
        value = self._attribute(words).read().encode() + b"\0"
        yield reply_line(len(value)) + value + b"\n"

    def _write(self, words: list[str]) -> Iterator[bytes]:
        require(len(words) >= 2)
        # like the real server: only the value for a known device is consumed
        self._device(words[0])
        size = parse_count(words[-1])
        if size > MAX_VALUE:
            # the value cannot be told from commands any more
            self.close()
            raise IioError(errno.EINVAL)
        self._pending = lambda: self._value(words[:-1], size)
        yield b""

    def _value(self, words: list[str], size: int) -> Iterator[bytes] | None:
        """Consume the value of a WRITE, also if the command failed."""
        if len(self._input) < size:
            return None
        value = bytes(self._input[:size]).decode("utf-8", "replace").rstrip("\0\n")
        del self._input[:size]
        self._pending = self._command
        return self._guarded(self._store(words, value, size))

    def _store(self, words: list[str], value: str, size: int) -> Iterator[bytes]:
        attribute = self._attribute(words)
        with self._pluto.lock:
            attribute.write(value)
        yield reply_line(size)

    def _attribute(self, words: list[str]) -> Attribute:
        """Find DEVICE [DEBUG|BUFFER|INPUT CHANNEL|OUTPUT CHANNEL] NAME."""
        require(2 <= len(words) <= 4)
        device, kind, name = self._device(words[0]), words[1], words[-1]
        if len(words) == 4:
            require(kind in ("INPUT", "OUTPUT"))
            return find(device.channel(words[2], output=kind == "OUTPUT").attributes, name)
        if len(words) == 3:
            require(kind in _GROUPS)
            return find(getattr(device, _GROUPS[kind]), name)
        return find(device.attributes, name)

    def _open(self, words: list[str]) -> Iterator[bytes]:
        require(len(words) in (3, 4) and words[3:] in ([], ["CYCLIC"]))
        device = self._device(words[0])
        count = parse_count(words[1])
        require(MASK.fullmatch(words[2]) is not None)
        mask = int(words[2], 16)
        columns = tuple(i for i in range(len(device.scan_channels)) if mask >> i & 1)
        cyclic = len(words) == 4
        self._reopen(device, cyclic=cyclic)
        stream = self._pluto.open(device, count=count, columns=columns, cyclic=cyclic)
        self._streams[device.name] = stream
        yield reply_line(0)

    def _reopen(self, device: Device, *, cyclic: bool) -> None:
        """Close a buffer that this client opened earlier, unless it is cyclic."""
        opened = self._streams.get(device.name)
        if opened is None:
            return
        if cyclic or (isinstance(opened, TransmitStream) and opened.cyclic):
            raise IioError(errno.EBUSY)
        self._streams.pop(device.name).close()

    def _close(self, words: list[str]) -> Iterator[bytes]:
        require(len(words) == 1)
        device = self._device(words[0])
        if device.name not in self._streams:
            raise IioError(errno.ENXIO)
        self._streams.pop(device.name).close()
        yield reply_line(0)

    def _readbuf(self, words: list[str]) -> Iterator[bytes]:
        stream, wanted = self._transfer(words)
        if not isinstance(stream, ReceiveStream):
            raise IioError(errno.EBADF)
        if wanted < stream.sample_bytes:
            yield reply_line(0)
            return
        mask = f"{sum(1 << i for i in stream.columns):08x}\n".encode()
        while wanted >= stream.sample_bytes:
            block = stream.read(alive=self._alive)[:wanted]
            wanted -= len(block)
            yield reply_line(len(block)) + mask + block
            mask = b""
        if wanted:
            yield reply_line(0)

    def _writebuf(self, words: list[str]) -> Iterator[bytes]:
        stream, offered = self._transfer(words)
        if offered < stream.sample_bytes:
            yield reply_line(0)
            return
        # data for a receiver is consumed and then refused
        code = 0 if isinstance(stream, TransmitStream) else errno.EBADF
        self._pending = lambda: self._samples(stream, left=offered, offered=offered, code=code)
        yield reply_line(0)

    def _samples(
        self, stream: ReceiveStream | TransmitStream, *, left: int, offered: int, code: int
    ) -> Iterator[bytes] | None:
        """Consume a block of a WRITEBUF, also after an error; None if it is not complete yet."""
        size = min(left, stream.block_bytes)
        if len(self._input) < size:
            return None
        data = bytes(self._input[: size - size % stream.sample_bytes])
        del self._input[:size]
        if data and not code and isinstance(stream, TransmitStream):
            try:
                stream.write(data, alive=self._alive)
            except IioError as error:
                code = error.code
        left -= size
        if left:
            self._pending = lambda: self._samples(stream, left=left, offered=offered, code=code)
            return iter(())
        self._pending = self._command
        return iter([reply_line(-code if code else offered)])

    def _transfer(self, words: list[str]) -> tuple[ReceiveStream | TransmitStream, int]:
        require(len(words) == 2)
        device, size = self._device(words[0]), parse_count(words[1])
        if device.name not in self._streams:
            raise IioError(errno.EBADF)
        return self._streams[device.name], size

    def _set(self, words: list[str]) -> Iterator[bytes]:
        require(len(words) == 3 and words[1] == "BUFFERS_COUNT")
        self._pluto.set_buffers_count(self._device(words[0]), parse_count(words[2]))
        yield reply_line(0)

    def _gettrig(self, words: list[str]) -> Iterator[bytes]:
        require(len(words) == 1)
        self._device(words[0])
        yield reply_line(-errno.ENOENT)

    def _settrig(self, words: list[str]) -> Iterator[bytes]:
        require(len(words) in (1, 2))
        self._device(words[0])
        yield reply_line(-errno.ENOENT)

    def _device(self, name: str) -> Device:
        return self._pluto.context.device(name)


_COMMANDS: dict[str, Callable[[Session, list[str]], Iterator[bytes]]] = {
    "PRINT": Session._print,
    "VERSION": Session._version,
    "TIMEOUT": Session._timeout,
    "EXIT": Session._exit,
    "QUIT": Session._exit,
    "READ": Session._read,
    "WRITE": Session._write,
    "OPEN": Session._open,
    "CLOSE": Session._close,
    "READBUF": Session._readbuf,
    "WRITEBUF": Session._writebuf,
    "SET": Session._set,
    "GETTRIG": Session._gettrig,
    "SETTRIG": Session._settrig,
}
