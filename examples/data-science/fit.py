"""Fits a line through measurements and writes it down."""

import json
import sys

import numpy

points = numpy.loadtxt(sys.argv[1], delimiter=",", skiprows=1)
slope, intercept = numpy.polyfit(points[:, 0], points[:, 1], 1)
with open(sys.argv[2], "w") as out:
    json.dump({"slope": round(float(slope), 6), "intercept": round(float(intercept), 6)}, out)
