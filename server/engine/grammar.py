"""What the API process and the engine hold in common of grammars: how complex one may be, and what is wrong with it."""

from llguidance import LLParserLimits

LIMITS = LLParserLimits(
    initial_lexer_fuel=400_000,
    step_lexer_fuel=20_000,
    step_max_items=2_000,
    max_items_in_row=500,
    max_lexer_states=20_000,
    max_grammar_size=100_000,
    verbose_errors=False,
)
"""Much tighter than the library's own, which let one mask take seconds while all rows wait for it."""

_LONGEST = 300


def grammar_message(message: str) -> str:
    """The part of one of llguidance's messages that tells what is wrong, of bounded length.

    That is the first line, and the line that begins with "error:" where there is one. The others draw the place,
    or show the library's inner state.
    """
    lines = message.strip().splitlines() or [""]
    error = next((line for line in lines[1:] if line.startswith("error:")), None)
    first = lines[0].removesuffix("regex parse error:") if error else lines[0]
    return " ".join(f"{first[:_LONGEST]} {error or ''}".split())[: 2 * _LONGEST]
