"""The networks, with the parameter names of the published weights."""
