"""A web page to look at synapses through what a run has computed."""
