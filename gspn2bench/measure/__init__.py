"""Raw measurements: three latencies, launch counts, the limits of the machine, GPU clocks."""
