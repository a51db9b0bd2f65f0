"""Everything that needs neither tensors nor gradients, once, in NumPy. This is the map.

    draws      every random number of the project: a pure function of seed, purpose, step and row
    data       data sets, files of tables and images, and tables that are passed over piece by piece
    parity     hold a model of your own against its port
    mixtures   checks, starting values, the loop of EM, and what the mixtures' estimators share
    networks   checks, starting values and training of the networks
    figures    the figures of runs and of the chapters
    runs       the training scripts: options, command line, run folders, checkpoints
    compare    models and runs next to each other, and reports of them
    book       the book: the two implementations side by side, from the sources

A room imports only rooms above it, and neither implementation nor framework. What is run from the command line may
import `runs`, wherever it stands: that is `data/datasets.py` and `figures/draw.py`. The chapters of the
implementations import earlier chapters, and of this map no room below `networks`; the train scripts and
`network_run.py` import `runs` as well.
`parity_tests/guards/test_imports.py` holds every file to it.
"""
