"""The closing words of a run that could not try every authorization server."""

MARK = "real server "


def pytest_terminal_summary(terminalreporter):
    """Name the servers that could not be installed."""
    reasons = set()
    for report in terminalreporter.stats.get("skipped", ()):
        text = str(report.longrepr)
        if MARK in text:
            reasons.add(text[text.index(MARK) + len(MARK) :].strip("')\" "))
    if reasons:
        terminalreporter.section("authorization servers not tried")
        for reason in sorted(reasons):
            terminalreporter.line(reason)
