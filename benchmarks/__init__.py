"""Measurements of fxrebasin; each writes a table that is committed beside it.

* ``coverage``: which models of torchvision, timm and transformers are understood, and how far;
* ``fuzz``: whether the groups that are found in random networks hold;
* ``kinds``: the groups beyond permutations, and whether their elements keep what models compute;
* ``planted``: hidden permutations, found again;
* ``align``: alignment beside other programs, of random networks and of planted permutations;
* ``choices``: what the choices of weight matching are worth, on trained networks;
* ``merging``: what merged models are worth, of trained networks and of published weights;
* ``compact``: units of zeros cut out, and weights rounded with units in order;
* ``speed``: how long the analysis takes, beside forward passes;
* ``scaling``: how time and memory grow with a network;
* ``assignment``: linear assignment problems, beside other solvers;
* ``accelerator``: alignment and assignment on an accelerator, beside the processor.

Run them from the root of the repository: ``python -m benchmarks.coverage --help``. What they share
is in ``measuring``.
"""
