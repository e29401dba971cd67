"""Empty: what can be run is found through `benchmarks.forecast.catalogue`."""
