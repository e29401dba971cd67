"""Speed, measured beside PyTorch and the eager definition: `python -m benchmarks layers`."""
