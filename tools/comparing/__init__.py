"""Comparison of policies on a fleet: the work of ``siftmoe loopback`` and ``siftmoe run``.

A job is checked, a site (fleet and channel) is opened, every policy answers the prompt and is
evaluated on the tasks, and the results are written into the run's folder.

- `job.Job`: what is compared, with which options
- `captions`: operating point, channel and fading in words
- `comparison.compare`: runs a job and writes its folder
- `site.Site`: a fleet that is ready, on a known channel
- `local_site.local_site`, `testbed_site.testbed_site`: sites of ``loopback`` and ``run``
- `local_fleet.local_fleet`: agents on this machine
- `inprocess.ExpertsInProcess`: experts in this process instead of on agents
- `exchange_rate.find_rate`: sets a price to a stated loss
- `stated_loss`: rise of perplexity over several channel draws, its error and upper limit
- `trials.Trials`: runs on validation text
- `resumption`: continues a run that was killed
"""
