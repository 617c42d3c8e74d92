"""Run a model on units: every op's rule is applied to the layouts of its operands."""
