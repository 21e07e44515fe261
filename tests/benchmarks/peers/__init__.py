"""Other ways to run the benchmarked pipelines, each as its own users would write it."""
