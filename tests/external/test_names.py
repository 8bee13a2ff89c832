"""Names in foreign archives."""

from __future__ import annotations

import pytest

from app.external.names import address, domain_name


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("Shop.Example.com", "shop.example.com"),
        ("xn--e1afmkfd.xn--p1ai", "xn--e1afmkfd.xn--p1ai"),
        ("Пример.рф", "xn--e1afmkfd.xn--p1ai"),
        ("☕.com", None),
        ("пример", None),
        ("../пример.рф", None),
    ],
)
def test_internationalised_domains_are_ours_by_one_name(written: str, name: str | None) -> None:
    assert domain_name(written) == name
    assert address(f"anna@{written}") == (None if name is None else ("anna", name))
