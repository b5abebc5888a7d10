"""Video files and pictures of them: what people see of a tensor."""

from reelign.video.files import Clip, encode_video, read_video, write_video
from reelign.video.images import read_image
from reelign.video.probe import Probe, probe_video
from reelign.video.sheets import contact_sheet

__all__ = ["Clip", "Probe", "contact_sheet", "encode_video", "probe_video", "read_image", "read_video", "write_video"]
