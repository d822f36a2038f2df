from __future__ import annotations

import librosa
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alm_proxies.seeds import generator
from alm_proxies.stages.simulate.cues import CUES, EXPRESSIONS, STEPS
from alm_proxies.stages.simulate.phones import CONSONANTS, VOWELS, pieces_of
from alm_proxies.stages.simulate.speakers import speaker
from alm_proxies.stages.simulate.timeline import syllable_count, tracks_of
from alm_proxies.stages.simulate.voice import SAMPLE_RATE, Spoken, speak
from alm_proxies.stages.simulate.words import LEXICON, PLAIN, TINTED, clauses_for, clauses_of, transcript_of

SENTENCE = clauses_of("the bus was late again, she reads the paper in the morning")


def spoken_by(person: int, cues: np.ndarray, seed: int = 0, sentence: str | None = None) -> Spoken:
    clauses = SENTENCE if sentence is None else clauses_of(sentence)
    return speak(clauses, speaker(person), cues, generator(seed, "test"))


def pitch_in_vowels(person: int, cues: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pitch in Hz that was wanted, and that librosa measures, in the middle of vowels."""
    tracks = tracks_of(SENTENCE, speaker(person), cues, generator(0, "test"))
    sound = spoken_by(person, cues).samples.astype(np.float32) / 32768
    heard = librosa.yin(sound, fmin=60, fmax=600, sr=SAMPLE_RATE, frame_length=1024, hop_length=80)
    frames = min(len(heard), len(tracks.hertz))
    steady = (tracks.voicing[:frames] > 0.9) & (tracks.creak[:frames] == 0)
    return tracks.hertz[:frames][steady], heard[:frames][steady]


def band_level(samples: np.ndarray, low: float, high: float) -> float:
    power = np.abs(np.fft.rfft(samples.astype(np.float64))) ** 2
    frequency = np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE)
    return float(10 * np.log10(power[(frequency >= low) & (frequency < high)].mean()))


@pytest.mark.parametrize("person", [0, 1])
@pytest.mark.parametrize("steps", [0.0, 1.2, -0.8])
def test_the_pitch_measured_in_the_sound_is_the_pitch_that_was_wanted(person: int, steps: float) -> None:
    cues = np.zeros(len(CUES))
    cues[0] = steps * STEPS[0]
    wanted, heard = pitch_in_vowels(person, cues)
    off = 12 * np.log2(heard / wanted)
    assert abs(np.median(off)) < 0.2
    assert (np.abs(off) < 1).mean() > 0.9


def test_the_cues_that_come_out_are_near_those_that_were_wanted() -> None:
    for row in range(len(EXPRESSIONS)):
        wanted = EXPRESSIONS[row] * STEPS
        assert np.abs((spoken_by(3, wanted).cues - wanted) / STEPS).max() < 0.25


def test_energy_is_the_level_of_the_samples_over_the_speakers_norm() -> None:
    cues = np.zeros(len(CUES))
    quiet, loud = spoken_by(4, cues), spoken_by(4, cues + np.eye(len(CUES))[3] * 9.0)
    difference = 20 * np.log10(loud.samples.astype(float).std() / quiet.samples.astype(float).std())
    assert difference == pytest.approx(loud.cues[3] - quiet.cues[3], abs=0.1)
    assert difference == pytest.approx(9.0, abs=0.3)


def test_a_shout_beyond_full_scale_is_made_softer_and_says_so() -> None:
    cues = np.zeros(len(CUES))
    cues[3] = 30.0
    spoken = spoken_by(1, cues)
    assert np.abs(spoken.samples.astype(int)).max() < 30000
    assert spoken.cues[3] < 25.0


def test_a_faster_rate_makes_the_same_sentence_shorter() -> None:
    fast, slow = np.zeros(len(CUES)), np.zeros(len(CUES))
    fast[4], slow[4] = 0.3, -0.3
    assert len(spoken_by(2, fast).samples) < 0.75 * len(spoken_by(2, slow).samples)


def test_breath_and_tilt_are_heard_at_high_frequencies() -> None:
    def balance(cue: str, value: float) -> float:
        cues = np.zeros(len(CUES))
        cues[CUES.index(cue)] = value
        samples = spoken_by(1, cues).samples
        return band_level(samples, 3000, 7000) - band_level(samples, 100, 800)

    assert balance("tilt", 4.0) > balance("tilt", 0.0) + 5 > balance("tilt", -4.0) + 10
    assert balance("breathiness", 14.0) > balance("breathiness", 0.0) + 3


def test_roughness_makes_periods_uneven() -> None:
    cues = np.zeros(len(CUES))
    smooth, rough = cues.copy(), cues.copy()
    smooth[6], rough[6] = -1.5, 2.5
    unsteady = [np.abs(np.log(np.divide(*pitch_in_vowels(1, c)))).mean() for c in (smooth, rough)]
    assert unsteady[1] > 1.3 * unsteady[0]


@pytest.mark.parametrize("person", [0, 1])
def test_vowels_have_their_formants(person: int) -> None:
    cues = np.zeros(len(CUES))

    def second_over_first(vowel: str) -> float:
        tracks = tracks_of(clauses_of(vowel), speaker(person), cues, generator(0, "test"))
        middle = int(tracks.voicing.argmax())
        samples = spoken_by(person, cues, sentence=vowel).samples
        around = samples[(middle - 10) * 80 : (middle + 10) * 80]
        scale = speaker(person).tract
        return band_level(around, 1800 * scale, 2500 * scale) - band_level(around, 550 * scale, 1150 * scale)

    assert second_over_first("he") > second_over_first("on") + 10


def test_an_s_hisses_without_voice_and_a_t_closes() -> None:
    cues = np.zeros(len(CUES))
    tracks = tracks_of(SENTENCE, speaker(0), cues, generator(0, "test"))
    samples = spoken_by(0, cues).samples
    hissing = np.flatnonzero((tracks.frication > 0.4) & (tracks.voicing < 0.05))
    vowel = np.flatnonzero(tracks.voicing > 0.95)
    hiss = np.concatenate([samples[f * 80 : (f + 1) * 80] for f in hissing])
    voice = np.concatenate([samples[f * 80 : (f + 1) * 80] for f in vowel])
    assert band_level(hiss, 4000, 7500) > band_level(hiss, 100, 1500) + 10
    assert band_level(voice, 100, 1500) > band_level(voice, 4000, 7500) + 10
    closed = tracks.spoken & (tracks.voicing < 0.05) & (tracks.frication < 0.01) & (tracks.aspiration < 0.05)
    shut = np.concatenate([samples[f * 80 : (f + 1) * 80] for f in np.flatnonzero(closed)])
    assert shut.astype(float).std() < 0.1 * voice.astype(float).std()


def test_the_same_seed_gives_the_same_samples_and_another_gives_others() -> None:
    cues = EXPRESSIONS[0] * STEPS
    assert np.array_equal(spoken_by(0, cues).samples, spoken_by(0, cues).samples)
    assert not np.array_equal(spoken_by(0, cues).samples[:8000], spoken_by(0, cues, seed=1).samples[:8000])


def test_sixty_speakers_differ_and_have_pitches_of_women_and_men() -> None:
    people = [speaker(index) for index in range(60)]
    assert len({person.name for person in people}) == 60
    assert len({(person.pitch, person.rate, person.tract) for person in people}) == 60
    women = [person.pitch for person in people if person.gender == "female"]
    men = [person.pitch for person in people if person.gender == "male"]
    assert len(women) == len(men) == 30
    assert min(women) >= 160
    assert max(women) <= 260
    assert min(men) >= 85
    assert max(men) <= 160
    assert np.mean([p.tract for p in people if p.gender == "female"]) > np.mean(
        [p.tract for p in people if p.gender == "male"]
    )


def test_another_crowd_has_other_speakers_under_other_names() -> None:
    assert speaker(5).name != speaker(5, crowd=1).name
    assert speaker(5).pitch != speaker(5, crowd=1).pitch


def test_every_word_of_every_sentence_can_be_said() -> None:
    sentences = [*PLAIN, *(clause for clauses in TINTED.values() for clause in clauses)]
    for clause in sentences:
        for word in clause:
            for phone in LEXICON[word]:
                assert pieces_of(phone)
    assert {phone.rstrip("01") for phones in LEXICON.values() for phone in phones} <= set(VOWELS) | set(CONSONANTS)


@given(wanted=st.floats(4, 30), seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_clauses_come_near_the_wanted_number_of_syllables(wanted: float, seed: int) -> None:
    blend = {label: float(label == "sad") for label in TINTED}
    clauses = clauses_for(wanted, blend, generator(seed, "words"))
    assert abs(syllable_count(clauses) - wanted) <= 6
    text = transcript_of(clauses)
    assert text[0].isupper()
    assert text.endswith(".")


def test_words_betray_a_blend_only_weakly() -> None:
    chance = generator(0, "words")
    happy = {label: float(label == "happy") for label in TINTED}
    clauses = [clause for _ in range(400) for clause in clauses_for(14, happy, chance)]
    own = np.mean([clause in TINTED["happy"] for clause in clauses])
    other = np.mean([clause in TINTED["sad"] for clause in clauses])
    assert 0.10 < own < 0.35
    assert own > 5 * other
