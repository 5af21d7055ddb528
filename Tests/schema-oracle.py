#!/usr/bin/env python3
"""Compares `sterna schema --accepts` with the jsonschema package on generated schemas and instances.

    python3 -m venv venv && venv/bin/pip install jsonschema
    venv/bin/python Tests/schema-oracle.py .build/release/sterna --schemas 500 --seed 1
    venv/bin/python Tests/schema-oracle.py --write Tests/Fixtures/schemas/generated.jsonl --schemas 400 --seed 7

Three verdicts: `invalid` must not be accepted. `valid` must be. `open` is valid and has a property that no `properties` declares, so both answers are right
(docs/jobs.md). A schema may be refused when it has a `oneOf` whose branches overlap, or when no instance is known that satisfies it.
"""
import argparse
import datetime
import ipaddress
import json
import random
import re
import subprocess
import sys
import tempfile
from decimal import Decimal

from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.validators import extend

# The oracle


def is_integer(_, value):
    if isinstance(value, bool):
        return False
    return isinstance(value, int) or isinstance(value, Decimal) and value == value.to_integral_value()


formats = FormatChecker(formats=())


@formats.checks("date")
def is_date(text):
    if not isinstance(text, str):
        return True
    match = re.fullmatch(r"([0-9]{4})-([0-9]{2})-([0-9]{2})", text)
    try:
        return bool(match and datetime.date(*map(int, match.groups())))
    except ValueError:
        return False


@formats.checks("time")
def is_time(text):
    if not isinstance(text, str):
        return True
    match = re.fullmatch(r"([0-9]{2}):([0-9]{2}):([0-9]{2})(\.[0-9]+)?([zZ]|[+-]([0-9]{2}):([0-9]{2}))", text)
    if not match or int(match[1]) > 23 or int(match[2]) > 59 or int(match[3]) > 59:
        return False
    return match[6] is None or int(match[6]) <= 23 and int(match[7]) <= 59


@formats.checks("date-time")
def is_date_time(text):
    return not isinstance(text, str) or len(text) > 10 and text[10] in "tT" and is_date(text[:10]) and is_time(text[11:])


@formats.checks("uuid")
def is_uuid(text):
    return not isinstance(text, str) or bool(re.fullmatch(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", text))


@formats.checks("ipv4", raises=ipaddress.AddressValueError)
def is_ipv4(text):
    return not isinstance(text, str) or bool(ipaddress.IPv4Address(text))


@formats.checks("email")
def is_email(text):
    if not isinstance(text, str):
        return True
    return bool(re.fullmatch(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*@[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*", text))


Validator = extend(
    Draft202012Validator,
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine("integer", is_integer),
)


def closed(schema):
    """The same schema, which takes no properties but declared ones, anywhere."""

    def place(schema):
        return {"allOf": [inner(schema)], "unevaluatedProperties": False, "unevaluatedItems": {"$ref": "#/$defs/anything"}}

    def inner(schema):
        if isinstance(schema, bool):
            return schema
        result = {}
        for name, value in schema.items():
            if name in ("properties", "$defs"):
                # What is only referred to may stand for a whole value or a part: wrapped where it is used.
                value = {key: inner(each) if name == "$defs" else place(each) for key, each in value.items()}
            elif name == "items":
                value = place(value)
            elif name == "additionalProperties" and value is not False:
                # It must hold and declares nothing: behind `not` nothing counts as declared.
                others = {"properties": {key: True for key in schema.get("properties", {})}, name: place(value)}
                name, value = "not", {"not": others}
            elif name == "prefixItems":
                value = [place(each) for each in value]
            elif name in ("allOf", "anyOf", "oneOf"):
                value = [inner(each) for each in value]
            elif name == "$ref" and value == "#":
                value = "#/$defs/root"
            result[name] = value
        return result

    root = inner(schema)
    if isinstance(root, bool):
        root = {"allOf": [root]}
    defs = dict(root.pop("$defs", {}))
    defs["anything"] = {"unevaluatedProperties": False, "unevaluatedItems": {"$ref": "#/$defs/anything"}}
    defs["root"] = root
    return {"$ref": "#/$defs/root", "unevaluatedProperties": False, "unevaluatedItems": {"$ref": "#/$defs/anything"}, "$defs": defs}


def parse(text):
    return json.loads(text, parse_float=Decimal)


class Oracle:
    def __init__(self, schema):
        self.plain = Validator(schema, format_checker=formats)
        self.closed = Validator(closed(schema), format_checker=formats)

    def verdict(self, value):
        if not self.plain.is_valid(value):
            return "invalid"
        return "valid" if self.closed.is_valid(value) else "open"


# Schemas

NAMES = ["a", "b", "c", "d", "kind", "x/y", "m~n", "é"]
WORDS = ["", "a", "b", "ab", "abc", "foo", "bar", "foobar", "x1", "AB-12", "ABC-7", "123", "é", "漏水", "🙂", "a b", "aaaa", "2026-02-28", "2026-02-29", "2024-02-29", "12:30:00Z", "24:00:00Z",
         "2026-11-25T09:16:21Z", "2026-11-25T09:16:21+02:00", "2026-11-25 09:16:21Z", "10.0.0.1", "10.0.0.256", "1.2.3", "a@b.example", "a@", "5b0e7d6a-91c3-4f02-8000-0123456789ab", "5b0e7d6a91c34f0280000123456789ab"]
PATTERNS = ["^[A-Z]{2,3}-[0-9]+$", "a", "^a", "b$", "^(foo|bar)+$", "[0-9]{3}", "^.{1,3}$", "^[^a-c]*$", "^a?b*c{0,2}$", "^$", "x|y|1", "^(a|ab)(c|b)?$", "o{2}"]
FORMATS = ["date", "time", "date-time", "uuid", "ipv4", "email"]


class Schemas:
    def __init__(self, random):
        self.random = random

    def document(self):
        r = self.random
        names = ["node", "part", "p/q", "t~u"][: r.choice([0, 0, 1, 2, 4])]
        self.defs = names
        schema = self.schema(r.choice([1, 2, 2, 3, 3, 4]), root=True)
        if isinstance(schema, dict) and names:
            schema["$defs"] = {name: self.schema(2) for name in names}
        return schema

    def some(self, items, most=3, least=0):
        return self.random.sample(items, min(len(items), self.random.randint(least, most)))

    def value(self, depth=1):
        r = self.random
        kind = r.randrange(9 if depth else 6)
        if kind < 2:
            return r.choice(WORDS)
        if kind == 2:
            return r.choice([0, 1, 2, 3, -1, 5, 10, 100, 1.5, 0.1, -2.5, 1.0])
        if kind == 3:
            return r.choice([True, False])
        if kind == 4:
            return None
        if kind == 5:
            return r.choice([0, 1, 7])
        if kind < 8:
            return [self.value(depth - 1) for _ in range(r.randrange(4))]
        return {name: self.value(depth - 1) for name in self.some(NAMES)}

    def numbers(self):
        r = self.random
        low = r.choice([-10, -1, 0, 0.5, 1, 2, 0.1])
        high = low + r.choice([0, 0.2, 1, 3, 3.5, 10])
        result = {}
        if r.random() < 0.6:
            result[r.choice(["minimum", "minimum", "exclusiveMinimum"])] = low
        if r.random() < 0.6:
            result[r.choice(["maximum", "maximum", "exclusiveMaximum"])] = high
        if r.random() < 0.15:
            result["multipleOf"] = r.choice([1, 1.0])
        return result

    def strings(self):
        r = self.random
        result = {}
        low = r.randrange(5)
        if r.random() < 0.35:
            result["minLength"] = low
        if r.random() < 0.35:
            result["maxLength"] = low + r.randrange(12)
        if r.random() < 0.3:
            result["pattern"] = r.choice(PATTERNS)
        elif r.random() < 0.3:
            return {"format": r.choice(FORMATS)}
        return result

    def arrays(self, depth):
        r = self.random
        result = {}
        low = r.randrange(4)
        if r.random() < 0.7:
            result["items"] = self.schema(depth - 1) if r.random() < 0.9 else False
        if r.random() < 0.3:
            result["prefixItems"] = [self.schema(depth - 1) for _ in range(r.randint(1, 3))]
        if r.random() < 0.3:
            result["minItems"] = low
        if r.random() < 0.4:
            result["maxItems"] = low + r.randrange(4)
        if r.random() < 0.3:
            result["uniqueItems"] = r.random() < 0.9
        return result

    def objects(self, depth):
        r = self.random
        result = {}
        if r.random() < 0.9:
            result["properties"] = {name: self.schema(depth - 1) for name in self.some(NAMES, 4, 1)}
        if r.random() < 0.6:
            result["required"] = self.some(list(result.get("properties", {})) + ([r.choice(NAMES)] if r.random() < 0.1 else []))
            result["required"] = list(dict.fromkeys(result["required"]))
        if r.random() < 0.4:
            result["additionalProperties"] = r.choice([False, False, False, True, self.schema(0)])
        return result

    def branches(self, depth):
        return [self.schema(depth - 1) for _ in range(self.random.randint(1, 3))]

    def disjoint(self, depth):
        """Branches that exclude each other, as people write them."""
        r = self.random
        kind = r.randrange(4)
        if kind == 0:
            return [self.typed(name, depth - 1) for name in self.some(["null", "boolean", "integer", "string", "array", "object"], 4, 2)]
        if kind == 1:
            result = []
            for tag in self.some(["leaf", "branch", "other"], 3, 2):
                schema = self.typed("object", depth - 1)
                schema["properties"] = {"kind": r.choice([{"const": tag}, {"enum": [tag]}])} | {k: v for k, v in schema.get("properties", {}).items() if k != "kind"}
                schema["required"] = ["kind"] + [name for name in schema.get("required", []) if name != "kind"]
                result.append(schema)
            return result
        if kind == 2:
            edges = sorted(r.sample([-5, 0, 0.5, 3, 10], 3))
            return [{"type": "number", "maximum": edges[0]}, {"type": "number", "exclusiveMinimum": edges[0], "maximum": edges[1]}, {"type": "integer", "minimum": edges[2] + 1}]
        values = r.sample(WORDS, 4)
        return [{"enum": values[:2]}, {"const": values[2]}, {"enum": values[3:] + values[:1]}]

    def overlapping(self, depth):
        """Objects with properties of their own, of which one may have all."""
        result = []
        for name in self.some(NAMES, 4, 2):
            result.append({"type": "object", "properties": {name: self.schema(depth - 1)}})
            if self.random.random() < 0.7:
                result[-1]["required"] = [name]
        return result

    def typed(self, name, depth):
        result = {"type": name}
        if name in ("integer", "number"):
            result |= self.numbers()
        elif name == "string":
            result |= self.strings()
        elif name == "array":
            result |= self.arrays(depth)
        elif name == "object":
            result |= self.objects(depth)
        return result

    def schema(self, depth, root=False):
        r = self.random
        kind = r.random()
        if depth <= 0:
            kind = kind * 0.55
        if kind < 0.3:
            result = self.typed(r.choice(["null", "boolean", "integer", "number", "string", "string"]), 0)
        elif kind < 0.4:
            result = {"enum": [self.value() for _ in range(r.randint(1, 4))]} if r.random() < 0.7 else {"const": self.value()}
        elif kind < 0.45:
            return r.choice([True, {}, True, False]) if not root else {}
        elif kind < 0.5:
            result = {"type": self.some(["null", "boolean", "integer", "number", "string"], 3, 1)} | self.numbers() | self.strings()
        elif kind < 0.55:
            result = {"$ref": r.choice(["#"] + ["#/$defs/" + n.replace("~", "~0").replace("/", "~1") for n in self.defs])} if self.defs else {"type": "boolean"}
            if root:
                result = {"type": "string"}
        elif kind < 0.72:
            result = self.typed("object", depth)
        elif kind < 0.84:
            result = self.typed("array", depth)
        elif kind < 0.9:
            result = {"anyOf": self.branches(depth) if r.random() < 0.7 else self.overlapping(depth)}
        elif kind < 0.94:
            result = {"oneOf": self.disjoint(depth) if r.random() < 0.8 else self.branches(depth)}
        elif kind < 0.96:
            result = {"allOf": self.branches(depth)}
        else:
            result = self.numbers() | self.strings()
            if r.random() < 0.5:
                result |= self.arrays(depth)
            if r.random() < 0.5:
                result |= self.objects(depth)
        if r.random() < 0.12:  # siblings
            result |= r.choice([self.numbers, self.strings, lambda: {"type": r.choice(["integer", "string", "object", "array"])}, lambda: self.objects(depth),
                                lambda: {"anyOf": self.branches(min(depth, 2))}, lambda: {"enum": [self.value() for _ in range(4)]}])()
        if r.random() < 0.1:
            result |= r.choice([{"title": "t"}, {"description": "what it is"}, {"default": 1}, {"$comment": "no"}, {"examples": [1]}, {"deprecated": True}, {"x-note": {"not": {}}}])
        return result

    # Instances: an attempt at a valid one, and changes to it.

    def instance(self, schema, document, depth=0):
        r = self.random
        if isinstance(schema, bool) or depth > 6 or r.random() < 0.03:
            return self.value()
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return r.choice(schema["enum"])
        if "$ref" in schema:
            target = document
            for token in schema["$ref"].split("/")[1:]:
                target = target[token.replace("~1", "/").replace("~0", "~")]
            return self.instance(target, document, depth + 1)
        for word in ("anyOf", "oneOf", "allOf"):
            if word in schema:
                parts = schema[word] if word == "allOf" else self.some(schema[word], r.choice([1, 1, 2, 3]), 1) if word == "anyOf" else [r.choice(schema[word])]
                values = [self.instance(part, document, depth + 1) for part in parts]
                if "properties" in schema or len(values) > 1:
                    values.append(self.instance({k: v for k, v in schema.items() if k != word}, document, depth + 1))
                if all(isinstance(value, dict) for value in values):
                    return {k: v for value in values for k, v in value.items()}
                return r.choice(values)
        kinds = schema.get("type")
        if kinds is None:
            kinds = [kind for kind, words in (("number", ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")), ("string", ("minLength", "maxLength", "pattern", "format")),
                                              ("array", ("items", "prefixItems")), ("object", ("properties",))) if any(word in schema for word in words)] or ["null", "boolean", "string", "number"]
        kind = r.choice(kinds) if isinstance(kinds, list) else kinds
        if kind == "null":
            return None
        if kind == "boolean":
            return r.random() < 0.5
        if kind in ("integer", "number"):
            low = schema.get("minimum", schema.get("exclusiveMinimum", schema.get("maximum", schema.get("exclusiveMaximum", 3)) - 3))
            value = low + r.choice([0, 0.1, 0.5, 1, 1, 2, 3])
            return int(value) if kind == "integer" else value
        if kind == "string":
            fitting = [word for word in WORDS if Validator({k: v for k, v in schema.items() if k in ("minLength", "maxLength", "pattern", "format")}, format_checker=formats).is_valid(word)]
            return r.choice(fitting or WORDS)
        if kind == "array":
            prefix = schema.get("prefixItems", [])
            count = r.randint(schema.get("minItems", 0), min(schema.get("maxItems", 4), 6)) if schema.get("minItems", 0) <= min(schema.get("maxItems", 4), 6) else 1
            if schema.get("items") is False:
                count = min(count, len(prefix))
            return [self.instance(prefix[i] if i < len(prefix) else schema.get("items", True), document, depth + 1) for i in range(count)]
        result = {}
        for name, inner in schema.get("properties", {}).items():
            if name in schema.get("required", []) or r.random() < 0.5 - depth * 0.06:
                result[name] = self.instance(inner, document, depth + 1)
        for name in schema.get("required", []):
            result.setdefault(name, 1)
        return result

    def mutated(self, value):
        r = self.random
        if isinstance(value, dict) and value and r.random() < 0.8:
            result = dict(value)
            name = r.choice(list(result))
            action = r.random()
            if action < 0.2:
                del result[name]
            elif action < 0.35:
                result[r.choice(NAMES)] = self.value()
            elif action < 0.45:
                result = dict(sorted(result.items(), key=lambda _: r.random()))
            else:
                result[name] = self.mutated(result[name])
            return result
        if isinstance(value, list) and value and r.random() < 0.8:
            result = list(value)
            at = r.randrange(len(result))
            action = r.random()
            if action < 0.2:
                del result[at]
            elif action < 0.35:
                result.append(result[at])
            elif action < 0.45:
                r.shuffle(result)
            else:
                result[at] = self.mutated(result[at])
            return result
        if isinstance(value, bool) or value is None:
            return r.choice([1, 0, None, True, False, "true", ""])
        if isinstance(value, (int, float)):
            return r.choice([value + 1, value - 1, value + 0.5, value - 0.1, -value, str(value), value > 0])
        if isinstance(value, str) and r.random() < 0.8:
            return r.choice([value + "a", value[1:], value[:-1], value + "🙂", value.upper(), value * 2, " " + value, r.choice(WORDS)])
        return self.value(2)

    def text(self, value):
        """JSON with numbers and letters spelt now and then in another way."""
        r = self.random
        if isinstance(value, bool) or value is None:
            return json.dumps(value)
        if isinstance(value, (int, float)):
            value = Decimal(repr(value))
            if value == value.to_integral_value() and abs(value) < 10**15:
                whole = int(value)
                return r.choice([str(whole)] * 5 + [f"{whole}.0", f"{whole}e0", f"{whole * 10}e-1", f"{whole}.00E+0"])
            return r.choice([str(value)] * 3 + [f"{value}0", f"{value.scaleb(2)}e-2".replace("E+", "e").replace("E-", "e-") if "E" not in str(value.scaleb(2)) else str(value)])
        if isinstance(value, str):
            return json.dumps(value, ensure_ascii=r.random() < 0.3)
        if isinstance(value, list):
            return "[" + ",".join(self.text(each) for each in value) + "]"
        return "{" + ",".join(json.dumps(name, ensure_ascii=r.random() < 0.3) + ":" + self.text(each) for name, each in value.items()) + "}"


def loops(schema, document, seen=()):
    """Whether a schema refers to itself without going into a property or an element, which has no meaning."""
    if not isinstance(schema, dict):
        return False
    inner = [each for word in ("allOf", "anyOf", "oneOf") for each in schema.get(word, [])]
    if "$ref" in schema:
        if schema["$ref"] in seen:
            return True
        target = document
        for token in schema["$ref"].split("/")[1:]:
            target = target[token.replace("~1", "/").replace("~0", "~")]
        if target is document and "#" in seen or loops(target, document, seen + (schema["$ref"],)):
            return True
    return any(loops(each, document, seen) for each in inner)


def places(schema):
    """All subschemas."""
    yield schema
    if isinstance(schema, dict):
        for word in ("properties", "$defs"):
            for each in schema.get(word, {}).values():
                yield from places(each)
        for word in ("allOf", "anyOf", "oneOf", "prefixItems"):
            for each in schema.get(word, []):
                yield from places(each)
        for word in ("items", "additionalProperties"):
            if word in schema:
                yield from places(schema[word])


def generate(seed, count, instances):
    """Yields (schema, [(text of an instance, verdict)])."""
    made = Schemas(random.Random(seed))
    while count > 0:
        schema = made.document()
        if any(loops(place, schema, ("#",) if place is schema else ()) for place in places(schema)):
            continue
        count -= 1
        oracle = Oracle(parse(json.dumps(schema)))
        texts = {}
        for i in range(instances):
            value = made.value(2) if i % 6 == 0 else made.instance(schema, schema)
            for _ in range(made.random.choice([0, 0, 1, 1, 2]) if i % 6 else 0):
                value = made.mutated(value)
            texts[made.text(value)] = None
        # Numbers beside a word, as 1.0 beside "1.0", are both wanted; equal texts are not.
        yield schema, [(text, oracle.verdict(parse(text))) for text in texts]


def run(sterna, schema, cases, folder):
    """What is wrong, one line each."""
    with open(folder + "/schema.json", "w") as file:
        json.dump(schema, file)
    for text, verdict in cases:
        with open(folder + "/instance.json", "w") as file:
            file.write(text)
        done = subprocess.run([sterna, "schema", folder + "/schema.json", "--accepts", folder + "/instance.json"], capture_output=True, text=True)
        if done.returncode == 2:
            overlap = ("not known to exclude each other" in done.stderr or "more than one branch" in done.stderr) and '"oneOf"' in json.dumps(schema)
            hopeless = "no value satisfies this schema" in done.stderr and all(verdict == "invalid" for _, verdict in cases)
            if not overlap and not hopeless:
                yield f"refused: {done.stderr.strip()}"
            return
        if done.returncode not in (0, 1):
            yield f"exit code {done.returncode} for {text}: {done.stderr.strip()}"
        elif (done.returncode, verdict) in ((0, "invalid"), (1, "valid")):
            yield f"{verdict}, but exit code {done.returncode}: {text}"


def check(path):
    """Whether the oracle disagrees with a verdict."""
    wrong = 0
    for line in open(path):
        row = json.loads(line, parse_float=Decimal)
        validator = Validator(row["schema"], format_checker=formats)
        for value, verdict in row["cases"]:
            if validator.is_valid(value) != (verdict != "invalid"):
                wrong += 1
                print(f"{row.get('about', row['schema'])}: {value} is not {verdict}")
    return wrong > 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("sterna", nargs="?", help="the built command")
    parser.add_argument("--schemas", type=int, default=300)
    parser.add_argument("--instances", type=int, default=12, help="for each schema")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write", help="keep the cases and their verdicts in this file instead")
    parser.add_argument("--check", help="only ask the oracle whether the verdicts in this file are right")
    options = parser.parse_args()
    if options.check:
        sys.exit(check(options.check))
    made = generate(options.seed, options.schemas, options.instances)
    if options.write:
        with open(options.write, "w") as file:
            for schema, cases in made:
                line = ",".join(f'[{text},"{verdict}"]' for text, verdict in cases)
                file.write(f'{{"schema":{json.dumps(schema, ensure_ascii=False, separators=(",", ":"))},"cases":[{line}]}}\n')
        return
    wrong = total = 0
    with tempfile.TemporaryDirectory() as folder:
        for schema, cases in made:
            total += len(cases)
            for line in run(options.sterna, schema, cases, folder):
                wrong += 1
                print(json.dumps(schema, ensure_ascii=False), line, sep="\n  ")
    print(f"{total} instances, {wrong} wrong")
    sys.exit(wrong > 0)


main()
