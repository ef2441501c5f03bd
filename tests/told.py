"""The table of what befell runs, told by the tests of `faults/` in whatever process they ran."""

TOLD = "what befell a run"  # a property of a test's report, which goes between processes


def write(terminalreporter):
    """The table, in Markdown, where there is something to tell."""
    calls = terminalreporter.getreports("passed")
    rows = [row for call in calls for name, row in call.user_properties if name == TOLD]
    if rows:
        terminalreporter.section("faults")
        terminalreporter.write_line("| what was done | times | what was lost, and what was said |")
        terminalreporter.write_line("|---|---|---|")
        for what, times, lost in rows:
            terminalreporter.write_line(f"| {what} | {times} | {lost} |")
