"""Tests of the container workflows: rules as data, workflows over fakes, and a few over a real engine."""
