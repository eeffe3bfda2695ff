"""What Python programs and notebooks use: `siftmoe.local`, `siftmoe.connect` and what they give.

- `local.local`: agents on this machine, simulated links, no file to write.
- `testbed.connect`: the running agents and radios of a testbed.
- `deployment.Deployment`: the model on these agents; `overview.Overview`: what it has cost.
- `source.bundle_of`: a bundle from a name, a folder, a checkpoint or a model in memory.
"""
