"""Makes patterns.jsonl: random patterns, random strings near them, and whether Python's re finds the pattern there.

    python3 make_patterns.py > patterns.jsonl

A line is [pattern, [strings found], [strings not found]]. Where ECMA 262 and Python disagree the fixture has ECMA's answer, which is the narrower one:
`$` is written \\Z, and `.` as a class, before Python compiles the pattern. \\d, \\w and \\s and their complements are ASCII classes here, and strings hold no characters outside ASCII
on which the readings differ; the tests have cases of their own for those.
"""
import json
import random
import re

random.seed(20)
ALPHABET = ["a", "b", "c", "0", "1", "_", "-", ".", " ", "\n", "¡", "€", "😀", "\u07ff", "\u0816", "\ufffd", "\U00010100", "A", "Z", "/", "]", "^", "$", "\\"]
SYNTAX = set("^$\\.*+?()[]{}|/")


def literal(c):
    if c in SYNTAX:
        return "\\" + c
    if c == "\n":
        return random.choice(["\\n", "\\x0a", "\n", "\\u000a"])
    if ord(c) > 0x7F and ord(c) < 0x10000 and random.random() < 0.3:
        return "\\u%04x" % ord(c)
    return c


def class_member():
    kind = random.random()
    if kind < 0.55:
        c = random.choice(ALPHABET)
        return "\\" + c if c in "]^\\-[" else (literal(c) if c not in SYNTAX else "\\" + c)
    if kind < 0.85:
        low, high = sorted(random.sample([c for c in ALPHABET if c not in "]^\\-["], 2))
        escape = lambda c: "\\" + c if c in SYNTAX else literal(c)
        return escape(low) + "-" + escape(high)
    return random.choice(["\\d", "\\w", "\\s", "\\D", "\\W", "\\S"])


def atom(depth):
    kind = random.random()
    if kind < 0.45:
        return literal(random.choice(ALPHABET[:14]))
    if kind < 0.55:
        return "."
    if kind < 0.62:
        return random.choice(["\\d", "\\w", "\\s", "\\D", "\\W", "\\S"])
    if kind < 0.8 or depth == 0:
        return "[" + random.choice(["", "", "^"]) + "".join(class_member() for _ in range(random.randint(1, 3))) + "]"
    return random.choice(["(", "(?:"]) + alternation(depth - 1) + ")"


def term(depth):
    kind = random.random()
    if kind < 0.06:
        return random.choice("^$")
    text = atom(depth)
    if kind < 0.4:
        low = random.randint(0, 3)
        text += random.choice(["*", "+", "?", "{%d}" % low, "{%d,}" % low, "{%d,%d}" % (low, low + random.randint(0, 3))])
        if random.random() < 0.15:
            text += "?"
    return text


def sequence(depth):
    return "".join(term(depth) for _ in range(random.choice([0, 1, 1, 2, 2, 3])))


def alternation(depth):
    return "|".join(sequence(depth) for _ in range(random.choice([1, 1, 1, 2, 3])))


def for_python(pattern):
    """ECMA's $ and dot in Python's words."""
    out, i, in_class = "", 0, False
    while i < len(pattern):
        c = pattern[i]
        if c == "\\":
            out += pattern[i : i + 2]
            i += 2
            continue
        if in_class:
            in_class = c != "]"
            out += "\\[" if c == "[" else c
        elif c == "[":
            in_class = True
            out += c
        elif c == "$":
            out += "(?!.|\\n)"
        elif c == ".":
            out += "[^\\n\\r\\u2028\\u2029]"
        else:
            out += c
        i += 1
    return out


def generate(tree):
    """A string near what the pattern wants: walks Python's own parse tree."""
    import re._constants as k

    out = ""
    for op, value in tree:
        if random.random() < 0.03:
            out += random.choice(ALPHABET)
        if op is k.LITERAL:
            out += chr(value)
        elif op is k.NOT_LITERAL or op is k.IN or op is k.ANY:
            out += pick(op, value)
        elif op is k.MAX_REPEAT or op is k.MIN_REPEAT:
            low, high, inner = value
            for _ in range(random.randint(low, min(int(high), low + 3))):
                out += generate(inner)
        elif op is k.SUBPATTERN:
            out += generate(value[-1])
        elif op is k.BRANCH:
            out += generate(random.choice(value[1]))
    return out


def pick(op, value):
    import re._constants as k

    for _ in range(10):
        c = random.choice(ALPHABET)
        if op is k.ANY or (op is k.NOT_LITERAL and ord(c) != value):
            return c
        if op is k.IN:
            negated = value[0][0] is k.NEGATE
            hit = any(
                (o is k.LITERAL and ord(c) == v) or (o is k.RANGE and v[0] <= ord(c) <= v[1]) or (o is k.CATEGORY and c in "a0_ " and random.random() < 0.5)
                for o, v in value
            )
            if hit != negated:
                return c
    return random.choice(ALPHABET)


made = set()
while len(made) < 3000:
    pattern = random.choice(["", "^", "^(?:"]) + alternation(2)
    pattern += ")$" if pattern.startswith("^(?:") else random.choice(["", "$"])
    if pattern in made:
        continue
    try:
        # Sets that Python warns about and repeated anchors are not for this corpus.
        compiled = re.compile(for_python(pattern), re.ASCII)
        tree = re._parser.parse(for_python(pattern), re.ASCII)
    except (re.error, FutureWarning):
        continue
    if re.search(r"(?<!\\)[$^][*+?{]", pattern):
        continue
    made.add(pattern)
    texts = {"", "\n", "a", "a\n"}
    for _ in range(12):
        text = generate(tree)[:40]
        if random.random() < 0.3:
            at = random.randint(0, len(text))
            text = text[:at] + random.choice(ALPHABET) + text[at + random.randint(0, 1) :]
        if random.random() < 0.2:
            text = random.choice(ALPHABET) + text + random.choice(ALPHABET)
        texts.add(text)
    for _ in range(4):
        texts.add("".join(random.choice(ALPHABET) for _ in range(random.randint(0, 6))))
    found = [bool(compiled.search(t)) for t in sorted(texts)]
    print(json.dumps([pattern, [t for t, f in zip(sorted(texts), found) if f], [t for t, f in zip(sorted(texts), found) if not f]], ensure_ascii=False))
