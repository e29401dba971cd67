"""Empty: experiments are found through `benchmarks.papers.catalogue`."""
