"""Draw the architecture: ``python docs/scripts/draw.py`` writes docs/figures/*.svg.

Rooms and floors are those of ``setup.cfg``; a test compares the files with what this draws.
"""

from __future__ import annotations

from rooms import PACKAGES, ROOT, floors, uses
from svg import SOFT, Drawing

FIGURES = ROOT / "docs" / "figures"
COLOURS = {
    "tools": "#f3e9fb",
    "coordinator": "#e3eefb",
    "agent": "#e2f4ea",
    "models": "#fdf1dc",
    "radio": "#fde6e2",
}
#: A token's way through the coordinator, downwards: room and what happens there.
WAY = (
    ("model", "the Hugging Face backbone; its router picks K experts for every token"),
    ("layer", "one expert layer: asks who is there and how the links are, follows the plan"),
    ("selection", "the problem as arrays: deviations, energies, budget, who hosts what"),
    ("policies", "the plan: for every slot which helper, which expert, how many bits"),
    ("air", "the plan's loads as bursts: window, airtime, power, energy"),
    ("dispatch", "rows grouped by helper, quantised and packed; results added up"),
    ("client", "one request per helper, its deadline, signs of life"),
)
#: The same on the board.
BOARD_WAY = (
    ("serving", "sockets; requests wait their turn"),
    ("service", "messages checked, rows unpacked"),
    ("compute", "ONNX Runtime; weighted sum per token"),
)
#: What the layer asks before it states the problem.
ASKED = (("fleet", "who is there"), ("links", "gains, simulated or sounded"))
#: What is booked, and the room that it comes from.
BOOKED = (("policies", "selections"), ("air", "bursts"), ("dispatch", "faults"))


def token_way() -> Drawing:
    """Draw the way of a token through one expert layer."""
    step, top, left, wide = 74, 62, 290, 470
    drawing = Drawing(1180, top + step * len(WAY) - 6, "A token's way through one expert layer")
    drawing.text(left, 34, "coordinator, on the user's device", size=15, bold=True)
    drawing.text(880, 34, "agent, on a board", size=15, bold=True)
    places = {}
    for number, (room, what) in enumerate(WAY):
        y = top + step * number
        places[room] = y
        _room(drawing, left, y, wide, room, what)
        if number:
            drawing.arrow((left + 40, y - step + 48), (left + 40, y))
    for number, (room, what) in enumerate(ASKED):
        y = places["layer"] + number * step - 20
        _room(drawing, 14, y, 200, room, what)
        drawing.arrow((214, y + 24), (left, places["layer"] + 20 + 14 * number))
    _board(drawing, places, right=left + wide)
    _ledger(drawing, places, left=left)
    return drawing


def _board(drawing: Drawing, places: dict[str, int], *, right: int) -> None:
    step = 74
    first = places["client"] - step * (len(BOARD_WAY) - 1)
    for number, (room, what) in enumerate(BOARD_WAY):
        y = places["client"] - step * number
        _room(drawing, 880, y, 280, room, what, colour=COLOURS["agent"])
        if number:
            drawing.arrow((920, y + step), (920, y + 48))
    y = places["client"]
    drawing.arrow((right, y + 24), (880, y + 24))
    drawing.text((right + 880) / 2, y + 16, "packed rows", size=12, colour=SOFT, anchor="middle")
    back, end = right + 60, places["dispatch"] + 24
    drawing.arrow((880, first + 24), (back, first + 24), (back, end), (right, end))
    drawing.text(back + 6, first + 42, "sums", size=12, colour=SOFT)


def _ledger(drawing: Drawing, places: dict[str, int], *, left: int) -> None:
    y = places["policies"]
    height = places["dispatch"] + 48 - y
    drawing.box(14, y, 160, height, fill=COLOURS["coordinator"])
    drawing.text(26, y + 20, "ledger/", size=13.5, bold=True)
    for number, line in enumerate(("books every step", "in one transaction")):
        drawing.text(26, y + 38 + 16 * number, line, size=12, colour=SOFT)
    for room, what in BOOKED:
        drawing.arrow((left, places[room] + 28), (174, places[room] + 28), dashed=True)
        drawing.text(
            (left + 174) / 2, places[room] + 22, what, size=12, colour=SOFT, anchor="middle"
        )


def _room(
    drawing: Drawing,
    x: float,
    y: float,
    width: float,
    room: str,
    what: str,
    *,
    colour: str = COLOURS["coordinator"],
) -> None:
    drawing.box(x, y, width, 48, fill=colour)
    drawing.text(x + 12, y + 20, f"{room}/", size=13.5, bold=True)
    drawing.text(x + 12, y + 38, what, size=12, colour=SOFT)


def floor_plan() -> Drawing:
    """Draw the floors of the five packages, each package above what it uses."""
    drawing = Drawing(1180, 850, "The floors of the five packages")
    middle = 390
    tools_end = _package(drawing, "tools", 14, 40, middle)
    coordinator_end = _package(drawing, "coordinator", middle + 60, 40, 400)
    agent_top = coordinator_end + 60
    _package(drawing, "agent", middle + 60, agent_top, 400)
    below = tools_end + 60
    models_end = _package(drawing, "models", 14, below, middle)
    _package(drawing, "radio", 14, models_end + 60, middle)
    drawing.text(870, 60, "A package uses:", size=13, bold=True)
    y = 84
    for package in PACKAGES:
        used = sorted(_packages_used(package), key=PACKAGES.index)
        drawing.box(870, y - 13, 16, 16, fill=COLOURS[package])
        drawing.text(894, y, f"{package}: {', '.join(used) or 'none of the others'}", size=12.5)
        y += 24
    y += 16
    for line in (
        "Within a package a room uses only rooms",
        "on lower floors; rooms on one floor do not",
        "know each other. lint-imports checks both,",
        "imports for types included.",
    ):
        drawing.text(870, y, line, size=12.5, colour=SOFT)
        y += 18
    return drawing


def _packages_used(package: str) -> set[str]:
    own = f"{package}."
    used = {
        r.partition(".")[0]
        for name, targets in uses().items()
        if name.startswith(own)
        for r in targets
    }
    return used - {package}


def _package(drawing: Drawing, package: str, x: float, y: float, width: float) -> float:
    """Draw a package's floors; returns where it ends."""
    stack = floors(package)
    height = 30 + 34 * len(stack)
    drawing.box(x, y - 26, width, height, fill="#fafbfc")
    drawing.text(x + 10, y - 7, package, size=14.5, bold=True)
    for floor in stack:
        left, unit = x + 8, (width - 12) / sum(len(room.title) + 4 for room in floor)
        for room in floor:
            share = unit * (len(room.title) + 4)
            drawing.box(left, y + 4, share - 4, 28, fill=COLOURS[package])
            size = round(min(12.5, 1.6 * (share - 4) / len(room.title)), 1)
            drawing.text(left + share / 2 - 2, y + 22, room.title, size=size, anchor="middle")
            left += share
        y += 34
    return y


DRAWINGS = {"token-way.svg": token_way, "floors.svg": floor_plan}


def main() -> None:
    """Write the drawings."""
    FIGURES.mkdir(exist_ok=True)
    for name, draw in DRAWINGS.items():
        (FIGURES / name).write_text(str(draw()), encoding="utf-8")


if __name__ == "__main__":
    main()
