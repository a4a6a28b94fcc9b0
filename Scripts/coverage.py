#!/usr/bin/env python3
"""Writes docs/coverage.md: for each name of docs/coverage.txt the symbol that Apus has for it and the tests that name it.

python3 Scripts/coverage.py            writes the file
python3 Scripts/coverage.py --check    fails if it is not up to date
python3 Scripts/coverage.py --missing  lists what has no symbol or no test

Symbols are found in the sources: a declaration that is public or open, or a case of a public enumeration. Nothing but Python's standard
library is needed.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIST = ROOT / "docs" / "coverage.txt"
PAGE = ROOT / "docs" / "coverage.md"

MODIFIERS = r"(?:(?:public|open|final|static|class|override|convenience|required|mutating|nonisolated(?:\(\w+\))?|lazy|indirect|package\(set\)|internal\(set\)|private\(set\)|@\w+(?:\([^)]*\))?)\s+)*"
DECLARATION = re.compile(
    r"^(\s*)(" + MODIFIERS + r")(class|struct|enum|actor|protocol|extension|typealias|func|var|let|init|case)\b\s*([\w`.]*)"
)


def declarations():
    """Public names, and `Type.member` with the text of the declaration: {name: [text]}."""
    found = {}

    def note(name, text):
        found.setdefault(name, []).append(text)

    for path in sorted((ROOT / "Sources").rglob("*.swift")):
        lines = path.read_text(encoding="utf-8").splitlines()
        # Types that are open at each depth of indentation: `swift format` indents by two.
        types = {}
        for i, line in enumerate(lines):
            match = DECLARATION.match(line)
            if not match:
                continue
            indent, modifiers, kind, name = len(match[1]), match[2].split(), match[3], match[4].strip("`")
            types = {depth: value for depth, value in types.items() if depth < indent}
            outer = types[max(types)] if types else None
            is_public = "public" in modifiers or "open" in modifiers
            # A declaration may go on over lines, up to its body.
            text = line
            for more in lines[i + 1 : i + 12]:
                if "{" in text:
                    break
                text += " " + more
            if kind == "extension":
                types[indent] = (name.split(".")[-1], is_public)
                continue
            if kind == "case":
                if outer and outer[1]:
                    for case in re.findall(r"(\w+)(?:\([^)]*\))?(?:\s*=\s*[^,]+)?(?:,|$)", line.split("//")[0].strip()[5:]):
                        note(f"{outer[0]}.{case}", line)
                continue
            if kind in ("class", "struct", "enum", "actor", "protocol"):
                types[indent] = (name, is_public)
            if not (is_public or (outer and outer[1] == "protocol")):
                continue
            name = name or "init"
            if outer is None or kind in ("class", "struct", "enum", "actor", "protocol"):
                note(name, text)
            if outer:
                note(f"{outer[0]}.{name}", text)
                # `public let a, b: Int`
                for other in re.findall(r",\s*(\w+)(?=\s*[,:])", line.split("=")[0]) if kind in ("var", "let") else []:
                    note(f"{outer[0]}.{other}", text)
    return found


def split(symbol):
    """A symbol's name and the parameter's label that is asked for, if any."""
    match = re.fullmatch(r"([\w.]+)(?:\((\w+):\))?", symbol)
    if not match:
        raise SystemExit(f"docs/coverage.txt: '{symbol}' is no symbol")
    return match[1], match[2]


def exists(symbol, declared):
    name, label = split(symbol)
    texts = declared.get(name, [])
    return any(re.search(rf"\b{label}\b\s*\w*:", text) for text in texts) if label else bool(texts)


def tests_of(symbol, tests):
    """The test files that name a symbol: a member must stand after a dot (or its type), a label before a colon."""
    name, label = split(symbol)
    last = name.split(".")[-1]
    if last == "init":
        last = name.split(".")[0]
        patterns = [rf"\b{last}\b"]
    elif "." in name:
        patterns = [rf"\.{last}\b|\b{last}:"]
    else:
        patterns = [rf"(?<![\w.]){last}\b"]
    if label:
        patterns.append(rf"\b{label}:")
    compiled = [re.compile(p) for p in patterns]
    return {path for path, text in tests.items() if all(p.search(text) for p in compiled)}


def entries():
    section = None
    for number, line in enumerate(LIST.read_text(encoding="utf-8").splitlines(), 1):
        line = line.strip()
        if line.startswith("## "):
            section = line[3:]
        elif line and not line.startswith("#"):
            parts = [part.strip() for part in line.split("|")]
            if len(parts) != 3 or section is None:
                raise SystemExit(f"docs/coverage.txt:{number}: not 'name | symbols | other name'")
            yield section, *parts


def without_comments(text):
    return re.sub(r"//.*", "", text)


def main():
    arguments = sys.argv[1:]
    if any(a not in ("--check", "--missing") for a in arguments):
        raise SystemExit(__doc__)
    declared = declarations()
    tests = {}
    for path in sorted((ROOT / "Tests").rglob("*.swift")):
        tests[path.relative_to(ROOT / "Tests").as_posix()] = without_comments(path.read_text(encoding="utf-8"))

    sections, counts, problems = {}, {"there": 0, "missing": 0, "untested": 0, "left": 0}, []
    for section, name, symbols, other in entries():
        rows = sections.setdefault(section, [])
        other = "" if other == "-" else f"`{other}`"
        if symbols.startswith("- "):
            counts["left"] += 1
            rows.append(f"| {name} | *left out* | {other} | {symbols[2:]} |")
            continue
        symbols = [s.strip() for s in symbols.split(",")]
        there = [s for s in symbols if exists(s, declared)]
        shown = ", ".join(f"`{s}`" if s in there else f"`{s}` **missing**" for s in symbols)
        proofs = sorted(set().union(*(tests_of(s, tests) for s in there)) if there else [])
        if len(there) < len(symbols):
            counts["missing"] += 1
            problems.append(f"{section}: {name}: {', '.join(s for s in symbols if s not in there)} is missing")
        elif not proofs:
            counts["untested"] += 1
            problems.append(f"{section}: {name}: no test names {', '.join(symbols)}")
        else:
            counts["there"] += 1
        # The most telling first: files of the rooms above the tensor room, then the rest, as many as fit.
        proofs.sort(key=lambda p: (p.startswith(("TensorTests", "PlanTests", "CLITests", "Portability")), p))
        cell = ", ".join(Path(p).stem for p in proofs[:4]) + (f" and {len(proofs) - 4} more" if len(proofs) > 4 else "")
        rows.append(f"| {name} | {shown} | {other} | {cell or '**none**'} |")

    total = sum(counts.values())
    lines = [
        "# Coverage",
        "",
        "What users of Keras and PyTorch look for, what Apus calls it, and the test files that name it. Written by `make coverage` from",
        "`docs/coverage.txt`, the declarations under `Sources` and the names in `Tests`; not to be edited.",
        "",
        f"Of {total} names {counts['there']} are there with tests, {counts['untested']} are there without, "
        f"{counts['missing']} are missing, {counts['left']} are left out with a reason.",
    ]
    for section, rows in sections.items():
        lines += ["", f"## {section}", "", "| name | Apus | elsewhere | tests |", "|---|---|---|---|", *rows]
    page = "\n".join(lines) + "\n"

    if "--missing" in arguments:
        print("\n".join(problems) or "nothing is missing")
        return
    if "--check" in arguments:
        if not PAGE.exists() or PAGE.read_text(encoding="utf-8") != page:
            raise SystemExit("docs/coverage.md is not up to date: run `make coverage`")
        return
    PAGE.write_text(page, encoding="utf-8")
    print(f"docs/coverage.md: {lines[5]}")


if __name__ == "__main__":
    main()
