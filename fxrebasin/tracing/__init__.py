"""From a module to something that can be run node by node, or at least once."""
