from edgetalk.train import program

from .command import main

program.run(main)
