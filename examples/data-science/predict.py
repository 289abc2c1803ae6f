"""Predicts from the model that the build fitted."""

import json
import sys

import numpy

model = json.load(open("/model/model.json"))
print(numpy.polyval([model["slope"], model["intercept"]], float(sys.argv[1])))
