"""axe-core's verdict on a page."""

from __future__ import annotations

from tests.browser.looks import Opened

TAGS = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")
GRAVE = ("serious", "critical")


def assert_accessible(seen: Opened) -> None:
    """Axe finds nothing serious or critical; it needs a page where scripts may run."""
    from axe_playwright_python.sync_playwright import Axe

    options = {"runOnly": {"type": "tag", "values": TAGS}, "resultTypes": ["violations"]}
    violations = Axe().run(seen.page, options=options).response["violations"]
    grave = [violation for violation in violations if violation["impact"] in GRAVE]
    assert not grave, "\n".join(
        f"{violation['impact']} {violation['id']}: {violation['help']}\n"
        + "\n".join(f"    {node['target']} {node['html'][:120]}" for node in violation["nodes"][:10])
        for violation in grave
    )
