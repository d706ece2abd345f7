"""Raw samples out: latency in three modes, launches, the machine's ceilings, clocks."""
