"""Sentences below the tables: how rows were tested, what the tests are about, and what they could not have shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sersearch.report.comparison import Ranking, Robustness, format_p, papers_losses_in_order
from sersearch.report.paper import BY_NOISE_LOSS
from sersearch.statistics.families import LEVEL

CHANCE = "†"
"""Marks a UA that can't be told from chance."""


def chance_note(emotions: int) -> str:
    """What guessing is worth."""
    return f"Chance: a UA of {100 / emotions:.2f} %, of {emotions} emotions."


def ranking_notes(ranking: Ranking) -> list[str]:
    """How rows were ranked and tested, what the tests are about, and what they could have shown, a note each."""
    comparisons, units = len(ranking.pairs), ranking.units
    shown = f"Test UA with its 95 % interval over {ranking.speakers} speakers: these networks on new speakers."
    if ranking.speakers == 1:
        shown = "Test UA; one speaker gives no interval."
    if units.kind == "fold":
        shown += f" Trained again: its 95 % interval over {units.counted()}, for networks that are trained anew."
    if comparisons == 0:
        return [shown]
    several = "comparison" if comparisons == 1 else "comparisons"
    return [
        shown,
        f"Two rows share a letter if and only if they do not differ significantly at {100 * LEVEL:.0f} %: each is "
        f"tested against each other one over {units.counted()}, corrected jointly for {comparisons} {several} (max-T). "
        "Ranks: the places that a row can have, for all rows at once.",
        f"{units.speaks_of} {_limit(ranking)}",
    ]


def _limit(ranking: Ranking) -> str:
    """What the design of a board can't show."""
    by_folds = ranking.units.kind == "fold"
    lowest = f"No p value of {ranking.units.counted()} can be below {format_p(ranking.smallest_p)}"
    if not ranking.decidable:
        more = "train six folds or more" if by_folds else "test more speakers, or all of them by folds"
        return f"{lowest}, so no difference can be shown here, however large: {more}."
    if ranking.smallest_difference is None:
        return f"{lowest}."
    power = (
        f"Between two rows, this design finds a difference of {ranking.smallest_difference:.1f} points with 80 % "
        "power; smaller ones may hide behind a shared letter."
    )
    bound = " Folds share training speakers: leaderboard.json has the p values of the conservative t test that allows "
    return power + (bound + "for it (bound_p, Nadeau and Bengio)." if by_folds else "")


def robustness_notes(found: Robustness, papers: Mapping[str, float], copies: int) -> Iterator[str]:
    """What losses to noise show, and how to read them.

    Args:
        found: the losses of one kind of features.
        papers: the paper's losses in points, by model; of other features none.
        copies: of each utterance in the store, the clean one included.
    """
    if found.claims:
        yield f"{found.verdict} {found.units.speaks_of}"
    elif found.verdict:
        yield found.verdict
    apart = [pair for pair in found.pairs if pair.apart]
    for pair in apart:
        yield (
            f"{found.losses[pair.first].model} loses {pair.comparison.difference:.2f} points more to the noisy copies "
            f"than {found.losses[pair.second].model} (p: {format_p(pair.adjusted_p)}, corrected for all pairs)."
        )
    if found.pairs and not apart:
        yield "No two types can be distinguished by what noise costs them."
    yield (
        "Each model is the best under the noisy condition, tested on its clean copies and on its noisy ones. The noisy "
        f"condition holds the clean copy among {copies} copies, so the loss to it is {copies - 1}/{copies} of that to "
        "the noisy copies alone. The paper's is Table 4's clean column less its noisy one, whose winners may be two "
        "models."
    )
    if all(model in papers for model in BY_NOISE_LOSS) and not papers_losses_in_order(papers):
        figures = ", ".join(f"{model.removesuffix('-CLDNN')} {papers[model]:.2f}" for model in BY_NOISE_LOSS)
        yield f"The paper's own losses ({figures}) are not in the order that it claims; it argues from noisy UA."
    if any(loss.at_chance for loss in found.losses):
        yield f"A model near chance has little to lose: read the losses of models marked {CHANCE} with that in mind."
