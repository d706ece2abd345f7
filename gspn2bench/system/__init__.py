"""The machine: CUDA driver, environment, backend, installed programs, and the doctor's checks."""
