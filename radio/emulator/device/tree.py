"""The attribute tree of an IIO context and its XML form.

A device has attributes, debug attributes, buffer attributes, and channels with their attributes.
An attribute has a name, a file name in sysfs, and functions to read and write it; both raise
`IioError` with the errno that the kernel driver would give.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from xml.sax.saxutils import quoteattr

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: Elements and their content for the document type; the client's XML parser validates.
_ELEMENTS = {
    "context": "(device | context-attribute)*",
    "context-attribute": "EMPTY",
    "device": "(channel | attribute | debug-attribute | buffer-attribute)*",
    "channel": "(scan-element?, attribute*)",
    "scan-element": "EMPTY",
    "attribute": "EMPTY",
    "debug-attribute": "EMPTY",
    "buffer-attribute": "EMPTY",
}
_ATTRIBUTES = {
    "context": "name CDATA #REQUIRED description CDATA #IMPLIED",
    "context-attribute": "name CDATA #REQUIRED value CDATA #REQUIRED",
    "device": "id CDATA #REQUIRED name CDATA #IMPLIED",
    "channel": "id CDATA #REQUIRED type (input|output) #REQUIRED name CDATA #IMPLIED",
    "scan-element": "index CDATA #REQUIRED format CDATA #REQUIRED scale CDATA #IMPLIED",
    "attribute": "name CDATA #REQUIRED filename CDATA #IMPLIED",
    "debug-attribute": "name CDATA #REQUIRED",
    "buffer-attribute": "name CDATA #REQUIRED",
}
_RULES = [f"<!ELEMENT {name} {content}>" for name, content in _ELEMENTS.items()]
_RULES += [f"<!ATTLIST {name} {content}>" for name, content in _ATTRIBUTES.items()]
_HEAD = f'<?xml version="1.0" encoding="utf-8"?><!DOCTYPE context [{"".join(_RULES)}]>'


class IioError(Exception):
    """An operation failed with an errno, which is sent to the client."""

    def __init__(self, code: int) -> None:
        super().__init__(errno.errorcode.get(code, str(code)))
        self.code = code


def _refuse() -> str:
    raise IioError(errno.EACCES)


def _refuse_write(_value: str) -> None:
    raise IioError(errno.EACCES)


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute.

    Parameters
    ----------
    name : str
    filename : str
        Its file in sysfs; equals the name for attributes of a device.
    read : callable
        Returns the value.
    write : callable
        Sets the value from text without a final NUL or newline.
    """

    name: str
    filename: str
    read: Callable[[], str] = _refuse
    write: Callable[[str], None] = _refuse_write


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel; ``scan_index`` and ``sample_format`` if it can be streamed."""

    id: str
    output: bool
    attributes: tuple[Attribute, ...]
    name: str | None = None
    scan_index: int | None = None
    sample_format: str = ""


@dataclass(frozen=True, slots=True)
class Device:
    """One device of a context."""

    id: str
    name: str
    channels: tuple[Channel, ...] = ()
    attributes: tuple[Attribute, ...] = ()
    debug_attributes: tuple[Attribute, ...] = ()
    buffer_attributes: tuple[Attribute, ...] = ()

    def channel(self, name: str, *, output: bool) -> Channel:
        """Channel by id or name; ENXIO if there is none."""
        for channel in self.channels:
            if channel.output is output and name in (channel.id, channel.name):
                return channel
        raise IioError(errno.ENXIO)

    @property
    def scan_channels(self) -> tuple[Channel, ...]:
        """Channels that can be streamed, in the order of the scan."""
        scanned = [c for c in self.channels if c.scan_index is not None]
        return tuple(sorted(scanned, key=lambda c: c.scan_index or 0))


@dataclass(frozen=True, slots=True)
class Context:
    """The IIO context of one Pluto."""

    name: str
    description: str
    attributes: Mapping[str, str]
    devices: tuple[Device, ...]
    _index: dict[str, Device] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        index = {key: device for device in self.devices for key in (device.name, device.id)}
        object.__setattr__(self, "_index", index)

    def device(self, name: str) -> Device:
        """Device by id or name; ENODEV if there is none."""
        if name not in self._index:
            raise IioError(errno.ENODEV)
        return self._index[name]

    def xml(self) -> str:
        """Return the description that ``PRINT`` sends."""
        inner = [
            _tag("context-attribute", {"name": key, "value": value})
            for key, value in self.attributes.items()
        ]
        inner += [_device_xml(device) for device in self.devices]
        head = _open_tag("context", {"name": self.name, "description": self.description})
        return f"{_HEAD}{head}{''.join(inner)}</context>"


def find(attributes: tuple[Attribute, ...], name: str) -> Attribute:
    """Attribute by name; ENOENT if there is none."""
    for attribute in attributes:
        if attribute.name == name:
            return attribute
    raise IioError(errno.ENOENT)


def _device_xml(device: Device) -> str:
    inner = [_channel_xml(channel) for channel in device.channels]
    groups = (
        ("attribute", device.attributes),
        ("debug-attribute", device.debug_attributes),
        ("buffer-attribute", device.buffer_attributes),
    )
    inner += [_tag(tag, {"name": a.name}) for tag, group in groups for a in group]
    head = _open_tag("device", {"id": device.id, "name": device.name})
    return f"{head}{''.join(inner)}</device>"


def _channel_xml(channel: Channel) -> str:
    attributes = {"id": channel.id}
    if channel.name:
        attributes["name"] = channel.name
    attributes["type"] = "output" if channel.output else "input"
    inner = []
    if channel.scan_index is not None:
        scan = {"index": str(channel.scan_index), "format": channel.sample_format}
        inner.append(_tag("scan-element", scan))
    inner += [
        _tag("attribute", {"name": a.name, "filename": a.filename}) for a in channel.attributes
    ]
    return f"{_open_tag('channel', attributes)}{''.join(inner)}</channel>"


def _open_tag(tag: str, attributes: Mapping[str, str]) -> str:
    return f"<{tag} {' '.join(f'{k}={quoteattr(v)}' for k, v in attributes.items())}>"


def _tag(tag: str, attributes: Mapping[str, str]) -> str:
    # libiio 0.24 crashes on an empty value
    return _open_tag(tag, {k: v for k, v in attributes.items() if v})[:-1] + " />"
