"""Video files and pictures of them: what people see of a tensor."""

from reelign.video.files import Clip, encode_video, read_video, write_video
from reelign.video.sheets import contact_sheet

__all__ = ["Clip", "contact_sheet", "encode_video", "read_video", "write_video"]
