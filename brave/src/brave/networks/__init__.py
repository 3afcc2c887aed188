"""The networks, with the module and parameter names of the published weights."""
