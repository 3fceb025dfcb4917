"""Fast versions of what a step spends its time on, for one array library, one range of sizes or one machine each.

Nothing outside calls a kernel directly: each stands behind a function of :mod:`dlra.linalg` or :mod:`dlra.nn`, which
chooses it where a recorded measurement (docs/performance.md) says that it wins, and which has a generic twin for all
array libraries. Tests compare the two.
"""
