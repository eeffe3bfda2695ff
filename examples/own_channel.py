"""A channel of your own, given as an object: gains that were measured somewhere else.

    python examples/own_channel.py

``examples/plugin`` shows a channel with options, installed as a package.
"""

import numpy as np

import siftmoe


class Walk:
    """Four helpers; the user walks from the first one to the last one in ten seconds."""

    num_links = 4

    def __init__(self) -> None:
        positions = [[0.0, 5.0], [10.0, 5.0], [20.0, 5.0], [30.0, 5.0]]  # m
        self._helpers = np.array(positions)
        self._radio = siftmoe.RadioEntry(fading="none")

    def states(self, now_s: float) -> siftmoe.LinkStates:
        """Mean gains at the distances of this moment; any `LinkStates` will do."""
        user = np.array([3.0 * (now_s % 10.0), 0.0])
        distances = np.linalg.norm(self._helpers - user, axis=1)
        return siftmoe.simulated_links(self._radio, distances).states(now_s)


def main() -> None:
    with siftmoe.local("upcycled", agents=4, links=Walk(), policy="siftmoe:price=1e-7") as run:
        print(run.generate("Return the number of", max_new_tokens=20))
    print(run.table())


if __name__ == "__main__":
    main()
