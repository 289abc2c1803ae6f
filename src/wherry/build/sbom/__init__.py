"""Bills of materials: what is installed in an image, found in its files, as an SPDX document.

`packages` reads the data bases of package managers (bytes to facts), `golang` programs made by Go, `scan`
walks a tree, `spdx` renders. Nothing of the image is executed. Refuses to fetch anything: what files do not
say (hashes of sources, vulnerabilities) is not told.
"""
