"""Empty: what can be run is found through `benchmarks.text.catalogue`."""
