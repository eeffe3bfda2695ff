"""Serve experts of a bundle to a coordinator.

The experts run on the first of TensorRT, CUDA and CPU that computes the bundle's golden output on
this machine. When the agent is ready it prints a line "listening on ADDRESS" (with --json: one
object that holds "endpoint").
"""

from __future__ import annotations

from siftmoe.agent.process.command import SUMMARY, configure, run

__all__ = ["SUMMARY", "configure", "run"]
