"""Tests of `wherry.runtime`; recorded trees and specs are in `data`."""
