"""The image that a stage becomes: its configuration's bytes. Pure."""

from __future__ import annotations

from dataclasses import replace

from wherry.build.exchange import with_records
from wherry.build.stages import StageResult
from wherry.build.steps import Stage
from wherry.images.config import Configuration, encode_config
from wherry.model.build import BuildRequest
from wherry.model.images import ImageConfig
from wherry.model.moments import render_rfc3339

_BILLION = 10**9


def image_config(request: BuildRequest, stage: Stage) -> ImageConfig:
    """Return what containers of the image get: the stage's, and the labels of the request."""
    labels = dict(stage.config.labels) | dict(request.labels)
    return replace(stage.config, labels=tuple(sorted(labels.items())))


def encode_image(request: BuildRequest, stage: Stage, result: StageResult) -> bytes:
    """Return the configuration of the image, whose digest is its id."""
    config = encode_config(
        Configuration(
            config=image_config(request, stage),
            diff_ids=tuple(stored.layer.diff_id for stored in result.layers),
            platform=stage.platform,
            created=render_rfc3339(result.epoch * _BILLION),
            author=stage.author or result.author,
            comment="buildkit.dockerfile.v0" if result.history else "",
            history=result.history,
        )
    )
    if not any(ref.kind == "inline" for ref in request.cache_to):
        return config
    # Only what is in the image: a squashed one has none of its steps' layers.
    there = {stored.layer.diff_id for stored in result.layers}
    records = [
        record
        for record in result.records
        if record.layer is None or record.layer.layer.diff_id in there
    ]
    return with_records(config, records, result.layers)
