"""Sound: files, spectra in mel bands, augmentation, data sets of speech."""

from bitspike.data.sound.fsdd import FSDD, fsdd_constants, load_fsdd
from bitspike.data.sound.mel import hz_of, log_mel, mel_filters, mel_of, mel_power, stretched
from bitspike.data.sound.moves import SoundMoves
from bitspike.data.sound.options import SoundOptions
from bitspike.data.sound.splits import Speech, speech_splits
from bitspike.data.sound.wav import read_wav

__all__ = [
    "FSDD",
    "SoundMoves",
    "SoundOptions",
    "Speech",
    "fsdd_constants",
    "hz_of",
    "load_fsdd",
    "log_mel",
    "mel_filters",
    "mel_of",
    "mel_power",
    "read_wav",
    "speech_splits",
    "stretched",
]
