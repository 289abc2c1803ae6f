"""Networks: codecs and laws without a kernel, and real packets in namespaces that the tests make."""
