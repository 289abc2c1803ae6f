"""Dockerfile to image.

    dockerfile (text to instructions) > graph (stages and steps, what each depends on) > solve (runs what no
    cache knows) > an image, or files

It refuses to know containers and the API: a RUN step is carried out by a `runner.Runner` that it is given,
and whoever asks for a build gets `Progress` and renders it as it likes. Read `dockerfile.syntax` first.
"""
