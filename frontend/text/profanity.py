"""Strong profanity, whole words only, masked by asterisks of the same length as Deepgram shows it.

A list of ours: recognised words are spelled correctly, so that nothing is gained from matching disguises, and the packages
tried mask ordinary words ("god", "womb", "organ", "Dick", "sex"), at 0.6 to 30 ms per 30 words. Left out here is whatever
has an everyday meaning or is a name, and mild words ("damn", "hell", "crap").
"""

from __future__ import annotations

from frontend.speech.events import Word
from frontend.text.words import rewritten, split, word_set

PROFANE: dict[str, frozenset[str]] = {
    "en": word_set(
        "arse arsehole arseholes ass asses asshole assholes bastard bastards bitch bitches bitchy blowjob blowjobs bollocks"
        " bullshit clusterfuck cocksucker cocksuckers cunt cunts dickhead dickheads dipshit dumbass dumbasses faggot faggots"
        " fuck fucked fucker fuckers fuckin fucking fucks fuckup goddamn horseshit jackass jackasses kike kikes motherfucker"
        " motherfuckers motherfucking nigga niggas nigger niggers piss pissed pisses pissing shit shithead shithole shits"
        " shitting shitty slut sluts slutty twat twats wanker wankers whore whores"
    ),
    "es": word_set(
        "cabrón cabrona cabrones cabronazo chingada chingar coño coños follar gilipollas hijueputa hostia joder jodida"
        " jodidas jodido jodidos maricón maricones mierda mierdas pendeja pendejas pendejo pendejos pinche puta putas puto"
        " putos zorra"
    ),
    "fr": word_set(
        "bordel connard connards connasse connasses couille couilles encule enculé enculée enculés enculer foutre merde"
        " merdes merdique nique niquer pute putes putain putains salaud salauds salope salopes"
    ),
    "de": word_set(
        "arsch arschloch arschlöcher ficken fickt fick gefickt hurensohn hurensöhne hure huren fotze fotzen scheiße scheisse"
        " scheiß scheiss scheißegal beschissen beschissene beschissener verschissen wichser missgeburt"
    ),
    "it": word_set(
        "cazzo cazzi coglione coglioni fanculo vaffanculo merda merde minchia puttana puttane stronza stronze"
        " stronzi stronzo stronzate troia troie bastardo bastardi incazzato incazzata"
    ),
}


def masked(word: Word, language: str) -> Word:
    """The word, or asterisks in its place; marks around it and a possessive 's stay."""
    lead, core, trail = split(word.text)
    low = core.lower().replace("’", "'")
    tail = "'s" if low.endswith("'s") else ""
    stem = low.removesuffix("'s").replace("-", "")
    if stem not in PROFANE.get(language, ()):
        return word
    stars = "*" * (len(core) - len(tail))
    return rewritten(word, lead + stars + core[len(core) - len(tail) :] + trail)
