"""Why a port differs: known mistakes as edits of the original's calls, and the search through them.

calls        a call with its arguments by name, to be made again with others
layers       mistakes in layers with weights
functions    mistakes in functions of tensors
losses       mistakes in losses
optimizers   mistakes in optimizers, as edits of one update
search       try them, one after the other, until the port has the result
"""
