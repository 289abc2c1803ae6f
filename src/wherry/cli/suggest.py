"""What a misspelt word was probably meant to be."""

from __future__ import annotations


def nearest(word: str, candidates: list[str]) -> str:
    """Return the candidate that `word` is at most a third of its letters away from, or nothing."""
    limit = max(1, len(word) // 3)
    best, best_distance = "", limit + 1
    for candidate in candidates:
        if len(word) > 2 and candidate.startswith(word):
            distance = 1
        elif abs(len(candidate) - len(word)) > limit:
            continue
        else:
            distance = edits(word, candidate)
        if distance < best_distance:
            best, best_distance = candidate, distance
    return best


def edits(a: str, b: str) -> int:
    """Return how many insertions, deletions, replacements and swaps of neighbours turn `a` into `b`."""
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        last, before, row = before, row, [i]
        for j, y in enumerate(b, 1):
            cost = min(before[j] + 1, row[-1] + 1, before[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                cost = min(cost, last[j - 2] + 1)
            row.append(cost)
    return row[-1]
