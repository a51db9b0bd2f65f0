"""Why a port differs: known mistakes as edits of the original's calls, and the search through them.

calls        a call with its arguments by name, to be made again with others; the table of mistakes
known        the mistakes, one page for each kind of operation
recurrent    PyTorch's recurrent layers, step by step, with each choice open
optimizers   mistakes in optimizers, as edits of one update
effects      what would follow from an edited call
penalty      a penalty in the port's loss; numbers of its own for each of a parameter's
search       try them, one after the other, until the port has the result
"""
