"""The commands of the program, a function each; `sersearch.cli` names them.

What is heavy (torch, Ray) is imported by the command that needs it, so that --help and plan answer at once.
"""
