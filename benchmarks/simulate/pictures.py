"""Draw the same sentence in six emotions by two speakers: spectrogram and measured pitch, one JPEG a speaker.

python benchmarks/simulate/pictures.py docs/images
"""

from __future__ import annotations

import base64
import struct
import sys
import zlib
from pathlib import Path

import altair as alt
import librosa
import numpy as np
import polars as pl
import vl_convert

from alm_proxies.seeds import generator
from alm_proxies.stages.simulate.cues import EXPRESSIONS, LABELS, STEPS
from alm_proxies.stages.simulate.speakers import speaker
from alm_proxies.stages.simulate.voice import SAMPLE_RATE, speak
from alm_proxies.stages.simulate.words import clauses_of

SENTENCE = clauses_of("the bus was late again, she reads the paper in the morning")
SECONDS = 4.6
WIDTH, HEIGHT = 330, 128


def grey_png(image: np.ndarray) -> str:
    """A data URI of an 8-bit grey PNG with 16 levels."""
    rows, columns = image.shape
    raw = b"".join(b"\x00" + row.tobytes() for row in image)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", columns, rows, 8, 0, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b"")
    return "data:image/png;base64," + base64.b64encode(png).decode()


def spectrogram(samples: np.ndarray) -> np.ndarray:
    """Wide-band spectrogram 0-8 kHz over SECONDS as grey levels, dark is loud."""
    padded = np.zeros(int(SECONDS * SAMPLE_RATE), np.float32)
    padded[: len(samples)] = samples[: len(padded)]
    loud = np.append(padded[:1], padded[1:] - 0.95 * padded[:-1])
    power = np.abs(librosa.stft(loud, n_fft=1024, win_length=256, hop_length=int(len(padded) / (2 * WIDTH)))) ** 2
    db = 10 * np.log10(power + 1e-9)
    db = db[::-1][:: max(1, db.shape[0] // (2 * HEIGHT))]
    level = np.clip((db - db.max() + 52) / 52, 0, 1)
    return (255 - (np.round(level * 15) * 17)).astype(np.uint8)


def panel(index: int, row: int) -> alt.LayerChart:
    who = speaker(index)
    spoken = speak(SENTENCE, who, EXPRESSIONS[row] * STEPS, generator(0, "picture", index, row))
    sound = spoken.samples.astype(np.float32) / 32768
    pitch, _, _ = librosa.pyin(sound, fmin=60, fmax=500, sr=SAMPLE_RATE, frame_length=1024, hop_length=160)
    seconds = np.arange(len(pitch)) * 160 / SAMPLE_RATE
    track = pl.DataFrame({"seconds": seconds, "pitch": pitch}).with_columns(
        pl.col("pitch").fill_nan(None), run=pl.col("pitch").is_nan().cast(pl.Int32).diff().fill_null(0).abs().cum_sum()
    )
    box = pl.DataFrame({"x": [0.0], "x2": [SECONDS], "y": [0.0], "y2": [8.0], "url": [grey_png(spectrogram(sound))]})
    x = alt.Scale(domain=[0, SECONDS], nice=False)
    image = (
        alt.Chart(box)
        .mark_image(width=WIDTH, height=HEIGHT, align="left", baseline="top", aspect=False)
        .encode(
            x=alt.X("x:Q", scale=x, title="seconds"),
            y=alt.Y("y2:Q", scale=alt.Scale(domain=[0, 8]), title="kHz"),
            url="url:N",
        )
    )
    line = (
        alt.Chart(track.drop_nulls())
        .mark_line(color="#e0322b", strokeWidth=1.6)
        .encode(
            x=alt.X("seconds:Q", scale=x),
            y=alt.Y("pitch:Q", scale=alt.Scale(domain=[0, 800]), axis=alt.Axis(orient="right", title="pitch, Hz")),
            detail="run:N",
        )
    )
    level = 20 * np.log10(np.sqrt(np.mean(sound**2)))
    title = f"{LABELS[row]}: {np.nanmean(pitch):.0f} Hz, {level:.0f} dB, {len(sound) / SAMPLE_RATE:.1f} s"
    return alt.layer(image, line).resolve_scale(y="independent").properties(width=WIDTH, height=HEIGHT, title=title)


def main(folder: Path) -> None:
    alt.data_transformers.disable_max_rows()
    for index, name in ((0, "woman"), (1, "man")):
        grid = alt.concat(*(panel(index, row) for row in range(len(LABELS))), columns=2)
        picture = vl_convert.vegalite_to_jpeg(grid.to_json(), scale=1.0, quality=72)
        path = folder / f"simulator_{name}.jpg"
        path.write_bytes(picture)
        print(path, f"{len(picture) / 1000:.0f} kB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
