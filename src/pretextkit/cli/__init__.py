"""Command line: ``pretextkit pretrain photos``, and the other commands.

Each command writes a short Python program from its flags, and runs it. With ``--show-code`` it prints the program. A
map of the files beside this one::

    _main       arguments in, exit status out
    _commands/  one command per file, and the table of all of them
    _command    what a command is
    _script     a Python program: its text, and how it is run
    _flags      flags from the keywords of a function
    _inputs     flags and code of images, labels and backbones
    _outputs    files that a command writes, and plain data for --json
    _messages   errors and warnings, with keywords of Python as flags
"""

from pretextkit.cli._main import main

__all__ = ["main"]
