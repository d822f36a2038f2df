"""The eight cues of prosody, always relative to the speaker's own norm, and how the six emotions are expressed in them.

| cue | in | zero is |
|---|---|---|
| pitch | semitones | the speaker's mean pitch over voiced sound |
| range | octaves | the speaker's spread of pitch around its line |
| contour | semitones from start to end | the speaker's usual fall |
| energy | dB | the speaker's level over spoken sound |
| rate | octaves | the speaker's syllables per spoken second |
| tilt | dB per octave | the speaker's spectral slope; more is brighter |
| roughness | doublings | the speaker's jitter and shimmer |
| breathiness | dB | the speaker's noise of breath |
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from alm_proxies.taxonomy import TAXONOMIES

Array = NDArray[np.float64]

LABELS: Final = TAXONOMIES["crema6"]
CUES: Final = ("pitch", "range", "contour", "energy", "rate", "tilt", "roughness", "breathiness")
STEPS: Final = np.array([2.5, 0.4, 3.0, 4.5, 0.2, 1.8, 0.9, 5.0])
"""One clearly audible step of each cue, in its own unit; expressions and listeners count in steps."""

EXPRESSIONS: Final = np.array(
    [
        [0.9, 0.7, -0.5, 1.5, 0.5, 1.4, 1.2, -0.7],  # angry
        [-0.5, 0.1, -0.9, 0.1, -0.9, 0.4, 0.9, 0.2],  # disgust
        [1.4, -0.4, 0.5, -0.1, 1.0, -0.2, 0.5, 1.2],  # fear
        [1.1, 1.3, 0.9, 0.7, 0.3, 0.6, -0.6, -0.1],  # happy
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],  # neutral
        [-0.7, -1.1, -0.4, -1.2, -1.0, -1.2, -0.1, 0.9],  # sad
    ]
)
"""Steps by which a full expression of each label moves each cue (rows in the order of LABELS)."""
