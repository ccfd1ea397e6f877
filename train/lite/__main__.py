from edgetalk.train import program

from .search import main

program.run(main)
