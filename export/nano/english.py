"""English sentences from templates: small talk, requests, numbers, dates, times, names, orders, product demos.

Numbers are spelled as they are spoken. Other languages have phrase books (`phrasebook.py`).
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable

# --- numbers and dates, as spoken ---------------------------------------------------------------------------------

ONES = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
ORDINALS = [
    "first",
    "second",
    "third",
    "fourth",
    "fifth",
    "sixth",
    "seventh",
    "eighth",
    "ninth",
    "tenth",
    "eleventh",
    "twelfth",
    "thirteenth",
    "fourteenth",
    "fifteenth",
    "sixteenth",
    "seventeenth",
    "eighteenth",
    "nineteenth",
    "twentieth",
]
MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
COMMANDS = [
    "yes", "no", "hello", "goodbye", "thanks", "please", "okay", "right", "left", "up", "down", "on", "off", "go", "next",
    "back", "again", "forward",
]  # fmt: skip
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]


def spell(n: int) -> str:
    """`n` in 0..999,999 in words."""
    if n < 20:
        return ONES[n]
    if n < 100:
        return TENS[n // 10 - 2] + (f" {ONES[n % 10]}" if n % 10 else "")
    if n < 1000:
        return f"{ONES[n // 100]} hundred" + (f" and {spell(n % 100)}" if n % 100 else "")
    return f"{spell(n // 1000)} thousand" + (f" {spell(n % 1000)}" if n % 1000 else "")


def ordinal(n: int) -> str:
    """`n` in 1..39 as an ordinal in words."""
    if n <= 20:
        return ORDINALS[n - 1]
    return "thirtieth" if n == 30 else f"{TENS[n // 10 - 2]} {ORDINALS[n % 10 - 1]}"


def year(n: int) -> str:
    """A year as it is said: nineteen eighty four, two thousand and seven."""
    if 2000 <= n < 2010:
        return "two thousand" + (f" and {ONES[n % 10]}" if n % 10 else "")
    low = n % 100
    return f"{spell(n // 100)} " + ("hundred" if low == 0 else f"oh {ONES[low]}" if low < 10 else spell(low))


# --- the generator ------------------------------------------------------------------------------------------------

CLASSES: dict[str, str] = {
    "name": "Alice Bob Carol David Emma Frank Grace Henry Isabel Jack Karen Laura Michael Nina Oliver Peter Rachel "
    "Sarah Thomas Victor Wendy Anna Ben Claire Daniel Ella George Hannah James Julia Kevin Linda Mark Nancy Oscar Paul "
    "Robert Simon Susan Tom William Mary John Elizabeth Richard Maria Charles Helen Edward Martin Sophie Lucy Adam",
    "surname": "Smith Jones Taylor Brown Williams Wilson Johnson Davies Walker White Green Hall Wood Clark Baker Young "
    "King Hill Cooper Ward Turner Parker Morris Cook Bell Collins Bailey Carter Miller Foster Russell Hunter Fisher",
    "city": "London Paris Berlin Madrid Rome Boston Chicago Dublin Oxford Vienna Sydney Toronto Seattle Denver Munich "
    "Glasgow Houston Lisbon Athens Moscow Tokyo Geneva Brussels Manchester Cambridge Philadelphia Washington Dallas",
    "country": "England France Germany Italy Spain Canada Mexico Japan China India Brazil Russia Ireland Scotland "
    "Norway Sweden Egypt Greece Poland Australia Portugal Turkey",
    "person": "woman man boy girl teacher doctor driver farmer lawyer nurse painter writer singer soldier student "
    "neighbour stranger manager engineer waiter customer child mother father brother sister friend cousin uncle aunt "
    "captain king queen prince judge guest tourist baker player officer director developer reporter scientist",
    "animal": "dog cat horse cow sheep goat bird fish mouse rabbit fox bear lion tiger elephant duck chicken pig "
    "monkey snake frog wolf donkey turkey goose",
    "thing": "book table chair lamp window door bottle cup plate knife letter paper pencil box bag key coat hat shoe "
    "shirt car bicycle boat train clock watch phone camera computer picture mirror basket blanket bucket candle carpet "
    "ladder hammer needle bridge wall fence gate tower garden machine engine radio ticket map newspaper umbrella "
    "wallet ring coin flag drum piano guitar violin ball bell stone rope wheel",
    "food": "bread butter cheese milk coffee tea sugar soup rice chicken fish salad cake chocolate an apple orange "
    "juice beef potatoes tomatoes onions eggs bacon honey jam pasta pizza sandwiches cookies ice cream water wine beer",
    "place": "kitchen garden street market station airport hospital library office school church museum theatre "
    "restaurant hotel beach park forest river lake mountain village town city farm castle harbour bank shop factory "
    "bathroom bedroom cellar attic corridor lobby",
    "adj": "big small old new good bad long short high low young early late hot cold warm cool dark light heavy soft "
    "hard wet dry clean dirty rich poor happy sad angry quiet loud fast slow easy difficult strange simple beautiful "
    "ugly expensive cheap empty full open narrow wide deep shallow strong weak bright sharp smooth rough famous "
    "dangerous important wonderful terrible perfect broken busy lazy honest clever gentle lonely nervous proud",
    "colour": "red blue green yellow black white brown grey pink purple orange golden silver",
    "adverb": "quickly slowly quietly carefully suddenly usually always never often sometimes finally really probably "
    "certainly hardly nearly almost already still again together alone twice soon yesterday today tomorrow tonight",
    "verbed": "found lost bought sold saw heard made broke opened closed carried dropped pushed pulled washed painted "
    "moved cleaned took brought left forgot remembered wanted needed liked loved hated watched followed kept hid "
    "threw caught borrowed returned fixed repaired showed sent",
    "verb": "find lose buy sell see hear make break open close carry drop push pull wash paint move clean take bring "
    "leave forget remember want need like watch follow keep hide throw catch borrow return fix repair show send use",
    "went": "walked ran drove went came travelled climbed jumped hurried wandered rode sailed swam returned moved",
    "weather": "sunny cloudy windy raining snowing freezing foggy cold warm hot stormy pleasant humid",
    "topic": "music history science politics football mathematics physics poetry cooking chemistry biology economics "
    "travel medicine painting gardening photography philosophy religion education business technology literature",
    "unit": "metres miles kilometres inches feet pounds grams litres hours minutes seconds days weeks months years "
    "percent degrees dollars euros people words streams",
    "tech": "server client browser microphone speaker keyboard screen network database decoder encoder model stream "
    "transcript sentence recording session connection request response message token buffer sample channel protocol "
    "header port socket file folder container language vocabulary dictionary demo page button timer graph metric",
    "techadj": "live partial final stable real simple local remote public private slow fast open secure small large "
    "automatic temporary missing broken correct empty new",
    "techverb": "start stop restart open close send receive record decode encode stream transcribe translate measure "
    "train test install update load save share check copy delete replay configure",
    "suit": "clubs spades hearts diamonds",
    "card": "two three four five six seven eight nine ten jack queen king ace",
    "poss": "my your his her our their the",
    "pron": "I you we they",
    "pron3": "he she it everybody nobody somebody",
    "who": "he she they we I",
    "prep": "in on under near behind beside over above below across through around into from past against inside",
    "greeting": "Hello Hi Good morning|Good evening|Good afternoon|Welcome",
}

TEMPLATES: dict[str, int] = {
    # small talk
    "{greeting}, {name}, how are you today?": 2,
    "{greeting}, my name is {name} {surname}.": 3,
    "Nice to meet you, {name}.": 1,
    "Thank you very much, {name}.": 1,
    "How was your {time_of_day}?": 1,
    "What do you think about {topic}?": 2,
    "I would like some {food}, please.": 2,
    "Could you {verb} the {thing}, please?": 3,
    "Can you {verb} {poss} {adj} {thing}?": 3,
    "Where did {who} {verb} the {thing}?": 2,
    "Do you {verb} the {colour} {thing} or the {colour} one?": 2,
    "I don't know where {poss} {thing} is.": 2,
    "I think {name} {verbed} {poss} {thing} {adverb}.": 3,
    "It is {weather} in {city} {adverb}.": 2,
    "It was {weather} on {day} and {weather} on {day}.": 2,
    "Yes, of course.": 1,
    "No, I don't think so.": 1,
    "That sounds {adj}, doesn't it?": 1,
    "Let's meet at the {place} at {clock}.": 3,
    "See you at {clock} on {day}.": 2,
    "Why didn't {who} call {name} {adverb}?": 2,
    "We have never been to {country}.": 1,
    "Have you ever been to {city}?": 1,
    "I can't hear you, please speak {adverb}.": 1,
    "What time is it in {city}?": 1,
    "Who {verbed} the {thing} {prep} the {place}?": 2,
    # numbers, dates, times
    "My phone number is {digits}.": 4,
    "The code is {digits}.": 2,
    "{digits_cap}.": 4,
    "It costs {number} dollars and {small} cents.": 3,
    "{name} is {small} years old.": 2,
    "The answer is {number}.": 2,
    "There are {number} {unit} left.": 3,
    "It is {number} {unit} from {city} to {city}.": 3,
    "The train to {city} leaves at {clock}.": 3,
    "The meeting is on {day}, {date}.": 3,
    "{name} was born on {date}, {year}.": 3,
    "In {year}, the {person} {went} to {country}.": 2,
    "We need {small} {food} and {small} {thing_pl}.": 2,
    "{small_cap} plus {small} is {small}.": 2,
    "The {card} of {suit}, please.": 2,
    "{card_cap} of {suit}, {card} of {suit}.": 2,
    "Flight {digits} to {city} is delayed by {small} minutes.": 2,
    "Room {digits} is on the {ordinal} floor.": 2,
    "He lives at {number} {surname} Street in {city}.": 2,
    # stories
    "The {adj} {person} {verbed} the {adj} {thing}.": 5,
    "The {person} {went} {prep} the {place} {adverb}.": 4,
    "A {colour} {thing} was {prep} the {adj} {thing}.": 3,
    "The {animal} {went} {prep} the {place}, and the {animal} {verbed} it.": 3,
    "{who_cap} {verbed} a {thing} {prep} the {place}, but {who} {verbed} it {adverb}.": 4,
    "When the {person} {verbed} the {thing}, the {animal} {went} {adverb} {prep} the {place}.": 3,
    "{name} and {name} {went} {prep} the {adj} {place}.": 3,
    "There was a {adj} {animal} {prep} {poss} {place}.": 3,
    "If you {verb} the {thing}, {pron} will {verb} the {adj} {thing}.": 3,
    "Nobody {verbed} the {adj} {thing} because it was too {adj}.": 2,
    "The {person} said that the {place} was {adj} and {adj}.": 3,
    "My {person} has studied {topic} for {small} years.": 2,
    "Mister {surname} {verbed} {poss} {thing} to {name}.": 2,
    "Doctor {surname} from {city} teaches {topic} and {topic}.": 2,
    "I had {food} and {food} for breakfast.": 2,
    "She sells {food} at the {place} every {day}.": 2,
    # product
    "Please {techverb} the {techadj} {tech}.": 4,
    "The {tech} is {techadj} and the {tech} is {techadj}.": 3,
    "VoiceForge turns live speech into text.": 1,
    "This is a test of the {techadj} {tech}.": 3,
    "You can {techverb} the {tech} while you speak.": 2,
    "How do I {techverb} the {tech}?": 2,
    "Speech to text in real time, on your own {tech}.": 1,
    "The {tech} sends a {techadj} {tech} every {small} milliseconds.": 2,
    "Press the {colour} button to {techverb} the {tech}.": 2,
    "Open the {tech}, speak into the microphone, and read the text.": 1,
    "The latency of the {tech} is {number} milliseconds.": 2,
    "Go forward {small} {unit}.": 2,
    "Turn {side}, then go {side} {prep} the {place}.": 2,
    "Turn the lights {onoff} in the {place}.": 2,
    "Set a timer for {small} minutes.": 1,
    "Play some {adj} music in the {place}.": 1,
    "What's the weather like in {city}?": 1,
}


def _clock(r: random.Random) -> str:
    hour = ONES[r.randint(1, 12)]
    return r.choice(
        [
            f"{hour} o'clock",
            f"half past {hour}",
            f"quarter to {hour}",
            f"{hour} {spell(r.randint(10, 59))}",
            f"{hour} thirty",
        ]
    )


def _number(r: random.Random) -> str:
    return spell(r.choice([r.randint(0, 20), r.randint(20, 100), r.randint(100, 1000), r.randint(1000, 20000)]))


def _digits(r: random.Random) -> str:
    return " ".join(
        r.choice([*ONES[:10], "oh"]) if r.random() < 0.15 else r.choice(ONES[:10]) for _ in range(r.randint(1, 8))
    )


_SPECIAL: dict[str, Callable[[random.Random], str]] = {
    "clock": _clock,
    "number": _number,
    "small": lambda r: spell(r.randint(2, 99)),
    "digits": _digits,
    "day": lambda r: r.choice(DAYS),
    "date": lambda r: r.choice(
        [f"the {ordinal(r.randint(1, 31))} of {r.choice(MONTHS)}", f"{r.choice(MONTHS)} {ordinal(r.randint(1, 31))}"]
    ),
    "year": lambda r: year(r.randint(1800, 2030)),
    "ordinal": lambda r: ordinal(r.randint(1, 39)),
    "time_of_day": lambda r: r.choice(["day", "morning", "evening", "weekend", "trip", "holiday", "flight"]),
    "side": lambda r: r.choice(["left", "right", "straight", "back"]),
    "onoff": lambda r: r.choice(["on", "off"]),
    "thing_pl": lambda r: r.choice(["apples", "chairs", "boxes", "tickets", "books", "cups", "plates", "letters", "eggs"]),
}


class Generator:
    """Endless sentences from templates; the same seed gives the same sentences."""

    def __init__(self, seed: int) -> None:
        self._r = random.Random(seed)
        self._templates = [t for t, weight in TEMPLATES.items() for _ in range(weight)]
        self._classes = {k: (v.split("|") if "|" in v else v.split()) for k, v in CLASSES.items()}
        self._classes["greeting"] = ["Hello", "Hi", "Good morning", "Good evening", "Good afternoon", "Welcome"]
        self._classes["food"] = [w for w in self._classes["food"] if w not in {"an", "ice"}]

    def _fill(self, slot: str) -> str:
        if slot.endswith("_cap"):
            word = self._fill(slot[:-4])
            return word[0].upper() + word[1:]
        if slot in _SPECIAL:
            return _SPECIAL[slot](self._r)
        return self._r.choice(self._classes[slot])

    def sentence(self) -> str:
        text = re.sub(r"\{(\w+)\}", lambda m: self._fill(m[1]), self._r.choice(self._templates))
        text = re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", text)
        return text[0].upper() + text[1:]
