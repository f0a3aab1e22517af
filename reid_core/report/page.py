"""The Chapter of a page, of the kind that its paper needs."""

from reid_core.report import chapters
from reid_core.report.attributes import VLADRChapter
from reid_core.report.joint import JointChapter
from reid_core.report.notebook import Chapter
from reid_core.report.pool import PADChapter
from reid_core.report.spectra import SpectraChapter

KINDS = {
    chapters.dmpt.NAME: SpectraChapter,
    chapters.pad.NAME: PADChapter,
    chapters.vladr.NAME: VLADRChapter,
    **dict.fromkeys(chapters.TASKS, JointChapter),
}


def chapter(page, name):
    """The Chapter called `name` of a page, with one task or with several, one spectrum or three, one
    data set or an order of them."""
    return KINDS.get(name, Chapter)(page, name)
