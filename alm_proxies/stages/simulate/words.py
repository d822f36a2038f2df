"""The words of simulated speech: a lexicon with pronunciations, and sentences, some with weak emotional wording."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from alm_proxies.stages.simulate.phones import is_vowel

_SPOKEN = """
a ax | again ax g eh1 n | all ao1 l | alone ax l ow1 n | am ae0 m | and ax n d | at ae0 t | away ax w ey1
awful ao1 f ax l | back b ae1 k | be b iy0 | been b ih0 n | before b ih0 f ao1 r | behind b ih0 hh ay1 n d
best b eh1 s t | birthday b er1 th d ey0 | blue b l uw1 | books b uh1 k s | bread b r eh1 d | bus b ah1 s | by b ay0
call k ao1 l | came k ey1 m | car k aa1 r | chair ch eh1 r | city s ih1 t iy0 | close k l ow1 s | coffee k ao1 f iy0
cold k ow1 l d | come k ah1 m | could k uh0 d | cry k r ay1 | dark d aa1 r k | day d ey1 | did d ih1 d
dirty d er1 t iy0 | do d uw0 | dog d ao1 g | door d ao1 r | down d aw1 n | eleven ih0 l eh1 v ax n
enough ih0 n ah1 f | ever eh1 v er0 | every eh1 v r iy0 | everything eh1 v r iy0 th ih0 ng | family f ae1 m ax l iy0
filthy f ih1 l th iy0 | five f ay1 v | food f uw1 d | for f ao0 r | found f aw1 n d | friday f r ay1 d ey0
from f r ah0 m | funny f ah1 n iy0 | garden g aa1 r d ax n | gave g ey1 v | get g eh1 t | go g ow1 | gone g ao1 n
good g uh1 d | great g r ey1 t | green g r iy1 n | had hh ae0 d | has hh ae0 z | have hh ae0 v | he hh iy0
hear hh ih1 r | help hh eh1 l p | her hh er0 | here hh ih1 r | hide hh ay1 d | him hh ih0 m | his hh ih0 z
home hh ow1 m | house hh aw1 s | how hh aw1 | i ay1 | in ih0 n | is ih0 z | it ih0 t | just jh ah0 s t | key k iy1
kitchen k ih1 ch ax n | know n ow1 | lake l ey1 k | last l ae1 s t | late l ey1 t | leave l iy1 v | left l eh1 f t
letter l eh1 t er0 | lies l ay1 z | like l ay1 k | list l ih1 s t | long l ao1 ng | look l uh1 k | lost l ao1 s t
love l ah1 v | made m ey1 d | make m ey1 k | man m ae1 n | me m iy0 | meeting m iy1 t ih0 ng | milk m ih1 l k
miss m ih1 s | monday m ah1 n d ey0 | money m ah1 n iy0 | more m ao1 r | morning m ao1 r n ih0 ng
mother m ah1 dh er0 | moved m uw1 v d | much m ah1 ch | my m ay0 | need n iy1 d | never n eh1 v er0 | new n uw1
next n eh1 k s t | nine n ay1 n | no n ow1 | noise n oy1 z | not n aa1 t | now n aw1 | of ax v | old ow1 l d
on aa0 n | one w ah1 n | open ow1 p ax n | our aw0 r | out aw1 t | over ow1 v er0 | paper p ey1 p er0
people p iy1 p ax l | phone f ow1 n | please p l iy1 z | put p uh1 t | rain r ey1 n | reads r iy1 d z | red r eh1 d
right r ay1 t | road r ow1 d | room r uw1 m | rotten r aa1 t ax n | said s eh1 d | saw s ao1 | school s k uw1 l
see s iy1 | seven s eh1 v ax n | she sh iy0 | shoes sh uw1 z | sick s ih1 k | smell s m eh1 l | so s ow1
some s ah0 m | somebody s ah1 m b aa0 d iy0 | sorry s aa1 r iy0 | station s t ey1 sh ax n | still s t ih1 l
stop s t aa1 p | street s t r iy1 t | sunday s ah1 n d ey0 | table t ey1 b ax l | take t ey1 k | talk t ao1 k
ten t eh1 n | that dh ae1 t | the dh ax | there dh eh1 r | they dh ey0 | think th ih1 ng k | this dh ih1 s
those dh ow1 z | three th r iy1 | time t ay1 m | to t ax | today t ax d ey1 | told t ow1 l d | took t uh1 k
town t aw1 n | train t r ey1 n | tree t r iy1 | two t uw1 | ugly ah1 g l iy0 | under ah1 n d er0 | us ah0 s
very v eh1 r iy0 | wait w ey1 t | walk w ao1 k | wall w ao1 l | want w aa1 n t | was w ax z | water w ao1 t er0
we w iy0 | weather w eh1 dh er0 | week w iy1 k | went w eh1 n t | were w er0 | wet w eh1 t | what w ah1 t
when w eh1 n | white w ay1 t | who hh uw1 | will w ih0 l | window w ih1 n d ow0 | with w ih0 dh
without w ih0 dh aw1 t | won w ah1 n | wonderful w ah1 n d er0 f ax l | work w er1 k | year y ih1 r | yes y eh1 s
yesterday y eh1 s t er0 d ey0 | you y uw0 | your y ao0 r
"""

LEXICON: dict[str, tuple[str, ...]] = {
    entry.split()[0]: tuple(entry.split()[1:]) for entry in _SPOKEN.replace("\n", " | ").split(" | ") if entry.strip()
}

_PLAIN = """
the train left the station at ten | we put the books on the table | she came home from work on friday
the red car is behind the house | he gave the letter to my mother | the meeting is at eleven
it is a long road to the lake | they moved the chair to the window | i saw the dog under the tree
the bus was late again | take the milk and the bread | we walk to school by the green wall
the list is on the kitchen door | my key is in the blue room | they said it on monday | i was in town last week
she reads the paper in the morning | the weather is cold today | he took two of the old shoes
there is water in the garden | it is a day from here | seven people came on sunday | we have coffee at nine
he told us to wait | the phone is on the wall | it was ten to three | we found your key | my family went to the city
she had no time yesterday | the man with the white car is new here | i think it is five
they want to see our new house | he could be there by one | some people like to walk | call me when you know
the street was dark and wet | we need more money for food | she is still at work | talk to him before you go
it will rain next week | the best bread is from the old town | who was it | he came without his phone
come down to the lake | how do they make it | just look at the time | i know that man | it has been a good year
close the window please
"""

_TINTED: Mapping[str, str] = {
    "angry": """
leave me alone | stop that noise right now | i told you to stop it | get out of my house | those were all lies
i had enough of you | how could you do that
""",
    "disgust": """
the smell is awful | it was filthy and rotten | take that dirty food away | it made me sick | that is so ugly
i could be sick
""",
    "fear": """
somebody is in the house | please help me | do not open that door | we have to hide now
did you hear that noise | do not go over there | there is somebody behind us
""",
    "happy": """
what a wonderful day | we won it at last | i love this so much | it is my birthday | that was so funny
yes this is great | we had the best time ever
""",
    "neutral": """
the meeting is at ten | the list is on the table | take the bus to the city
""",
    "sad": """
i miss her very much | everything is gone | he never came back home | i lost my old dog | she is so alone now
i cry every day | i am so sorry
""",
}


Clauses = tuple[tuple[str, ...], ...]


def _sentences(text: str) -> Clauses:
    return tuple(tuple(part.split()) for part in text.strip().replace("\n", " | ").split(" | ") if part.strip())


_NAMES = ("i", "friday", "monday", "sunday")
LIGHT = frozenset(
    " ".join(
        (
            "a the to of in on at by is it was i we he she they that and with from my her his your our do did had has",
            "have be been could will am were for him us me so there this those not or as",
        )
    ).split()
)
"""Words that are spoken without an accent."""
PLAIN = _sentences(_PLAIN)
TINTED = {label: _sentences(text) for label, text in _TINTED.items()}


def syllables(words: tuple[str, ...]) -> int:
    """How many syllables the words have."""
    return sum(is_vowel(phone) for word in words for phone in LEXICON[word])


def clauses_for(
    wanted: float, blend: Mapping[str, float], generator: np.random.Generator, *, telling: float = 0.2
) -> Clauses:
    """Clauses of about `wanted` syllables; each has wording that suggests the blend with probability `telling`."""
    labels = tuple(blend)
    shares = np.array([blend[label] for label in labels])
    clauses: list[tuple[str, ...]] = []
    count = 0
    while True:
        draw = generator.random()
        if draw < telling:
            pool = TINTED[labels[int(generator.choice(len(labels), p=shares / shares.sum()))]]
        elif draw < telling * 1.3:
            pool = TINTED[labels[int(generator.integers(len(labels)))]]
        else:
            pool = PLAIN
        fitting = [clause for clause in pool if clause not in clauses] or list(pool)
        distance = np.array([abs(syllables(clause) - (wanted - count)) for clause in fitting])
        weights = np.exp(-distance / 2.0)
        clause = fitting[int(generator.choice(len(fitting), p=weights / weights.sum()))]
        longer = count + syllables(clause)
        if clauses and abs(longer - wanted) >= abs(count - wanted):
            return tuple(clauses)
        clauses.append(clause)
        count = longer
        if count >= wanted:
            return tuple(clauses)


def clauses_of(text: str) -> Clauses:
    """The clauses of a text in lower case, separated by commas: "the bus was late, we have coffee"."""
    return tuple(tuple(clause.split()) for clause in text.split(","))


def transcript_of(clauses: Clauses) -> str:
    """The transcript of clauses: "The bus was late again, we have coffee at nine."."""
    text = ", ".join(" ".join(word.capitalize() if word in _NAMES else word for word in clause) for clause in clauses)
    return text[0].upper() + text[1:] + "."
