"""What tests need of wherry itself: fakes, contract suites, interpreters. Only tests import it."""
