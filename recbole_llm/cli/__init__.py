"""The command line: one file a command, and nothing outside this folder knows argparse.

A command is a module with ``HELP`` (its line in the overview), ``add_arguments(parser)`` and
``run(arguments, rest)``, which returns the exit status; ``main.COMMANDS`` lists it.
"""
