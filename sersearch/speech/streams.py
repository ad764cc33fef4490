"""Checks of compressed streams that decoders do not make: does a stream end where its encoder ended it?

Decoders stop without an error where an Ogg, MP3 or streamed FLAC file is cut off. The containers themselves tell: the
last Ogg page is marked (RFC 3533), an MP3 frame tells its size, and a FLAC frame ends with a checksum (RFC 9639).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

CUT_SHORT = "is cut short"

_OGG_HEADER_BYTES = 27
_END_OF_STREAM = 4
_START_OF_STREAM = 2

_ID3_HEADER_BYTES = 10
# Bit rates of MPEG Layer III in kbit/s by their index; index 0 means "free format" and 15 is invalid.
_MPEG1_KBITS = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_MPEG2_KBITS = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_MPEG_RATES_HZ = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
_LENGTH_TAGS = (b"Xing", b"Info", b"VBRI")

# A FLAC frame holds at most 65,535 samples of 8 channels; frames of real files are far below this size.
_LONGEST_FLAC_FRAME_BYTES = 2**18
_FLAC_STARTS_TRIED = 4


@dataclass(frozen=True)
class Mp3Frames:
    """The frames of an MP3 stream.

    Attributes:
        samples: number of samples per channel in all complete frames.
        samples_per_frame: number of samples per channel in one frame.
        has_length: whether the first frame announces the length of the stream (Xing, Info or VBRI header).
        is_cut: whether the last frame is incomplete.
    """

    samples: int
    samples_per_frame: int
    has_length: bool
    is_cut: bool


def ogg_fault(content: bytes) -> str | None:
    """Check the pages of an Ogg file (Vorbis, Opus, FLAC).

    Args:
        content: bytes of the file, which begin with "OggS".

    Returns:
        What is wrong, as the end of a sentence that begins with the file's name; None if the file is whole.
    """
    position = 0
    next_sequence: dict[int, int] = {}
    last_granule: dict[int, int] = {}
    open_streams: set[int] = set()
    while content[position : position + 4] == b"OggS":
        header = content[position : position + _OGG_HEADER_BYTES]
        if len(header) < _OGG_HEADER_BYTES:
            return CUT_SHORT
        flags = header[5]
        granule = int.from_bytes(header[6:14], "little", signed=True)
        serial = int.from_bytes(header[14:18], "little")
        sequence = int.from_bytes(header[18:22], "little")
        segments = header[26]
        body = position + _OGG_HEADER_BYTES + segments
        end = body + sum(content[position + _OGG_HEADER_BYTES : body])
        if end > len(content):
            return CUT_SHORT
        is_first = bool(flags & _START_OF_STREAM)
        if not is_first and sequence != next_sequence.get(serial, sequence):
            return "is damaged (a page of its Ogg stream is missing)"
        # A granule position of -1 marks a page on which no packet ends.
        if granule != -1:
            if not is_first and granule < last_granule.get(serial, granule):
                return "is damaged (the positions of its Ogg pages go backwards)"
            last_granule[serial] = granule
        next_sequence[serial] = sequence + 1
        if flags & _END_OF_STREAM:
            open_streams.discard(serial)
        else:
            open_streams.add(serial)
        position = end
    return CUT_SHORT if open_streams else None


def mp3_frames(content: bytes) -> Mp3Frames | None:
    """Count the frames of an MP3 stream; the walk ends at the first bytes that are not a frame of this stream.

    Args:
        content: bytes of the file.

    Returns:
        The counts; None if no Layer III frame was found behind the tags at the start.
    """
    position = _first_frame(content)
    first = _frame_size(content[position : position + 4])
    if first is None:
        return None
    size, samples_per_frame = first
    has_length = any(tag in content[position : position + size] for tag in _LENGTH_TAGS)
    # Version, layer and sampling rate are those of the first frame in every frame of a stream.
    same_stream = _stream_bits(content, position)
    frames = 0
    is_cut = False
    while (frame := _frame_size(content[position : position + 4])) and _stream_bits(content, position) == same_stream:
        if position + frame[0] > len(content):
            is_cut = True
            break
        position += frame[0]
        frames += 1
    samples = (frames - has_length) * samples_per_frame
    return Mp3Frames(samples, samples_per_frame, has_length, is_cut)


def flac_ends_with_frame(content: bytes) -> bool:
    """Tell whether a FLAC file ends with a complete frame, by the frame's checksum.

    Args:
        content: bytes of the file.
    """
    tail = content[-_LONGEST_FLAC_FRAME_BYTES:]
    # Bytes inside a frame may look like the start of one, so more than one start is tried, but not all of the file's.
    starts = islice(_flac_frame_starts(tail), _FLAC_STARTS_TRIED)
    # The checksum of a frame together with the checksum that is stored at its end is 0.
    return any(_crc16(tail[start:]) == 0 for start in starts)


def _first_frame(content: bytes) -> int:
    """Find the first frame: behind an ID3v2 tag, whose size is stored in four times 7 bits."""
    position = 0
    while content[position : position + 3] == b"ID3" and len(content) >= position + _ID3_HEADER_BYTES:
        size = 0
        for byte in content[position + 6 : position + _ID3_HEADER_BYTES]:
            size = size << 7 | byte & 0x7F
        position += _ID3_HEADER_BYTES + size
    # Some files have padding between the tag and the first frame.
    while position < len(content) and content[position] == 0:
        position += 1
    return position


def _stream_bits(content: bytes, position: int) -> tuple[int, int]:
    return content[position + 1] & 0x1E, content[position + 2] & 0x0C


def _frame_size(header: bytes) -> tuple[int, int] | None:
    """Return (bytes, samples per channel) of the Layer III frame that begins with these four bytes."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return None
    version, layer = header[1] >> 3 & 3, header[1] >> 1 & 3
    bit_rate_index, rate_index, padding = header[2] >> 4, header[2] >> 2 & 3, header[2] >> 1 & 1
    is_layer_3 = layer == 1
    if not is_layer_3 or version not in _MPEG_RATES_HZ or bit_rate_index in (0, 15) or rate_index == 3:
        return None
    is_mpeg1 = version == 3
    kbits = (_MPEG1_KBITS if is_mpeg1 else _MPEG2_KBITS)[bit_rate_index]
    samples = 1152 if is_mpeg1 else 576
    return samples // 8 * kbits * 1000 // _MPEG_RATES_HZ[version][rate_index] + padding, samples


def _flac_frame_starts(tail: bytes) -> Iterator[int]:
    """Find where frames begin, the last one first: a sync code, then a header whose checksum is right."""
    end = len(tail)
    while (start := tail.rfind(b"\xff", 0, end)) >= 0:
        end = start
        if tail[start + 1 : start + 2] not in (b"\xf8", b"\xf9"):
            continue
        # A header has 6 to 16 bytes, and the last of them is its checksum.
        if any(_crc8(tail[start : start + size]) == 0 for size in range(6, 17)):
            yield start


def _crc8(content: bytes) -> int:
    return _crc(content, bits=8, polynomial=0x07)


def _crc16(content: bytes) -> int:
    return _crc(content, bits=16, polynomial=0x8005)


def _crc(content: bytes, bits: int, polynomial: int) -> int:
    """Compute a checksum bit by bit; FLAC's checksums begin with 0."""
    top, mask = 1 << bits - 1, (1 << bits) - 1
    value = 0
    for byte in content:
        value ^= byte << bits - 8
        for _ in range(8):
            value = (value << 1 ^ polynomial if value & top else value << 1) & mask
    return value
