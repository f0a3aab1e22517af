"""The papers. Each module has RECIPE, VARIANTS {name: Method} and ABLATIONS {row as printed: {field: value}}.

PLANNED names the classes whose stages exist and whose losses do not yet: they prove that the contract of `base` holds
all methods, and no command runs them.
"""

from reid_core.methods import clip_reid, dmpt, hpl, pad, promptsg, vladr

METHODS = {"clip_reid": clip_reid, "promptsg": promptsg}
PLANNED = {
    hpl.HPL: hpl.HPLRecipe(),
    dmpt.DMPT: dmpt.DMPTRecipe(),
    pad.PADReleased: pad.PADRecipe(),
    pad.PADDescribed: pad.PADRecipe(),
    vladr.VLADRReleased: vladr.VLADRRecipe(),
    vladr.VLADRDescribed: vladr.VLADRRecipe(),
}
