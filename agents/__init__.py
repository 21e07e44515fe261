"""The running system: components as Faust agents, and the command line."""
