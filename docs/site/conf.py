# SPDX-License-Identifier: Apache-2.0
"""Sphinx's settings; `build.py` calls it once for each language."""

import json
import os
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

language = os.environ.get("BEFFROI_DOCS_LANGUAGE", "en")
_french = language == "fr"
project = "Beffroi"
author = "The Beffroi authors"
extensions = ["myst_parser"]
root_doc = "index"
exclude_patterns = ["files"]
nitpicky = True
suppress_warnings = ["myst.header"]  # a paper of the repository may skip a level
highlight_language = "text"
pygments_dark_style = "github-dark"

myst_heading_anchors = 4
myst_enable_extensions = ["attrs_inline"]
# `site:` is a place in the finished site that this tree does not know (the other language, a file of the repository), `site-at:` a
# heading on such a page.
myst_url_schemes = {
    "http": None,
    "https": None,
    "mailto": None,
    "site": {"url": "{{path}}", "classes": ["site"]},
    "site-at": {"url": "{{path}}#{{fragment}}", "classes": ["site"]},
}

html_theme = "furo"
html_title = "Beffroi"
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
html_show_sourcelink = False
html_static_path = ["static"]
html_css_files = ["beffroi.css"]
html_favicon = "static/beffroi.svg"
templates_path = ["templates"]
html_sidebars = {
    "**": [
        "sidebar/brand.html",
        "sidebar/language.html",
        "sidebar/search.html",
        "sidebar/scroll-start.html",
        "sidebar/navigation.html",
        "sidebar/scroll-end.html",
    ]
}
html_theme_options = {
    "light_logo": "beffroi.svg",
    "dark_logo": "beffroi-dark.svg",
    "light_css_variables": {
        "color-brand-primary": "#8a2f1d",
        "color-brand-content": "#8a2f1d",
        "color-brand-visited": "#6d3f6f",
    },
    "dark_css_variables": {
        "color-brand-primary": "#f0a48c",
        "color-brand-content": "#f0a48c",
        "color-brand-visited": "#d8a9da",
    },
    "top_of_page_buttons": [],
}


def _languages(app: Sphinx, pagename: str, _template: str, context: dict[str, Any], _doctree: Any) -> None:
    """The page's address in the other language, or that tree's first page."""
    known = json.loads((Path(app.srcdir) / "languages.json").read_text())
    other = "en" if _french else "fr"
    here = pagename in known[other]
    up = "../" * (pagename.count("/") + 1)
    context["other_language"] = {
        "code": other,
        "url": f"{up}{other}/{pagename if here else 'index'}.html",
        "name": "In English" if _french else "En français",
        "page": here,
    }


def setup(app: Sphinx) -> dict[str, bool]:
    """Sphinx calls it."""
    app.connect("html-page-context", _languages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
