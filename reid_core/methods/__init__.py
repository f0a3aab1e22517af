"""The papers. Each module has RECIPE, VARIANTS {name: Method} and ABLATIONS {row as printed: {field: value}}."""

from reid_core.methods import clip_reid

METHODS = {"clip_reid": clip_reid}
