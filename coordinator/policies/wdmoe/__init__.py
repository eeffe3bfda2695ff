"""WDMoE: drops light experts from slow devices and divides the band anew.

A baseline after arXiv 2411.06681; the rules of dropping are this project's reconstruction.

- `policy.Wdmoe`: the policy
- `bandwidth.allocate_bandwidth`: division of the band at least latency
- `dropping.drop_by_cosine`, `dropping.drop_from_slowest`: the two rules
- `devices.WdmoeLinks`: the devices of the latency model
"""
