"""The tests: one folder for each package, `gates` for the rules of the house, `harness` for all."""
