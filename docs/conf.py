"""The documentation site: `make docs` builds it into build/docs, of the pages beside this file.

Nothing here needs the internet: neither the build nor the site, whose theme brings its own styles
and takes the fonts of the reader's system.
"""

import os
import pathlib
import re

from sphinx.domains.python import PyObject

from cluenet_jax.version import __version__

ROOT = pathlib.Path(__file__).parent.parent

project = "cluenet-jax"
release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = f"{project} {release}"
# Sources of the pages would be copied beside them.
html_copy_source = False
html_show_copyright = False
html_static_path = ["_static"]
html_css_files = ["site.css"]

# Links such as performance.md#lessons, to headings down to this level.
myst_heading_anchors = 3

autodoc_member_order = "bysource"
# An override without a docstring of its own would show that of Flax.
autodoc_inherit_docstrings = False
autodoc_preserve_defaults = True
# A class's fields are in its docstring, under Attributes, and their types in its signature.
napoleon_use_ivar = True
napoleon_attr_annotations = False
# Of literal blocks in docstrings, which are tables and equations.
highlight_language = "none"
python_maximum_signature_line_length = 88

# Every reference must have its target, but those to other packages: their inventories would be
# downloaded.
nitpick_ignore_regex = [
    (
        "py:.*",
        r"(PIL|collections|contextlib|etils|flax|jax|jaxlib|ml_collections|numpy|optax|os|pathlib)"
        r"\..*",
    ),
    # An alias within Optax.
    ("py:class", "ArrayTree"),
]

# Where the sections of README.md are in the site.
SECTIONS = {
    "": "index.md",
    "installation": "getting_started.md",
    "quick-start": "getting_started.md",
    "models-and-results": "models.md",
    "parity-with-pytorch": "models.md",
    "tasks": "tasks.md",
}
LINK = re.compile(r"\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^)\s:]+)\)")


def site_links(text: str, folder: pathlib.Path) -> str:
    """Markdown whose links suit the site as well as they suit GitHub.

    Args:
      text: Of a page.
      folder: That its links are relative to.

    Returns:
      The text, with links relative to docs/: those into README.md, CHANGELOG.md and the cards of
      weights lead to the pages that include them, those to folders are text alone. A file that is
      no page is copied beside the site by MyST: there is no public address of the repository to
      send readers to.
    """

    def replace(match: re.Match) -> str:
        name, target = match.groups()
        file, _, anchor = target.partition("#")
        path = (folder / file).resolve()
        if not file:
            return match[0]
        if path.is_dir():
            return name
        if path == ROOT / "README.md" and anchor in SECTIONS:
            file = SECTIONS[anchor]
        elif path == ROOT / "CHANGELOG.md":
            file = "changelog.md"
        elif path.parent == ROOT / "cluenet_jax" / "pretrained":
            file = "pretrained.md"
        else:
            file = os.path.relpath(path, ROOT / "docs")
        return f"[{name}]({file}{'#' + anchor if anchor else ''})"

    return LINK.sub(replace, text)


def read_page(app, name: str, content: list[str]) -> None:
    """A page of docs/, before it is parsed."""
    if "/" not in name:
        content[0] = site_links(content[0], ROOT / "docs")


def read_included(app, path: pathlib.Path, parent: str, content: list[str]) -> None:
    """README.md, CHANGELOG.md or a card, which has no relative links, before it is parsed."""
    content[0] = site_links(content[0], ROOT)


def read_docstring(app, what: str, name: str, obj, options, lines: list[str]) -> None:
    """A docstring, before napoleon reads it: from the house's form to napoleon's.

    Names are in single backquotes, as in Markdown. What Returns says before a colon is no type,
    and an entry of Attributes may be of several names.
    """
    text = "\n".join(lines)
    text = re.sub(r"`([^`]+)`(\w?)", as_literal, text)
    text = re.sub(r"^(Return|Yield)s:$", r":\1s:", text, flags=re.M)
    lines[:] = SEVERAL_NAMES.sub(one_by_one, text).splitlines()


def as_literal(code: re.Match) -> str:
    """Code in double backquotes; a letter after it, a plural's s, needs an escaped space."""
    return f"``{code[1]}``" + (f"\\ {code[2]}" if code[2] else "")


# An entry of Attributes with its continuation.
SEVERAL_NAMES = re.compile(r"^  (\w+(?:, \w+)+)(: .*(?:\n    .*)*)", re.M)


def one_by_one(entry: re.Match) -> str:
    """An entry for each of the names."""
    return "\n".join(f"  {name}{entry[2]}" for name in entry[1].split(", "))


def read_signature(app, what: str, name: str, obj, options, signature: str, returns: str):
    """A class's signature without what Flax adds to it, and with defaults that can be parsed."""
    if what != "class" or not signature:
        return None
    signature = re.sub(r",? ?parent: .* = <flax[^>]*>, name: str \| None = None", "", signature)
    signature = re.sub(r"<class '([\w.]+)'>", r"\1", signature)
    return signature.replace("<factory>", "..."), returns


def skip_member(app, what: str, name: str, obj, skip: bool, options) -> bool | None:
    """Leaves out members that say nothing: fields of named tuples, types as default values."""
    field = (getattr(obj, "__doc__", "") or "").startswith("Alias for field")
    value = isinstance(obj, type) and not obj.__module__.startswith("cluenet_jax")
    return True if field or value else None


def setup(app) -> None:
    app.connect("source-read", read_page)
    app.connect("include-read", read_included)
    # Before napoleon, whose priority is 500.
    app.connect("autodoc-process-docstring", read_docstring, priority=400)
    app.connect("autodoc-process-signature", read_signature)
    app.connect("autodoc-skip-member", skip_member)
    for field in PyObject.doc_field_types:
        if field.name == "variable":
            # Sphinx says Variables, which are something else in Flax.
            field.label = "Attributes"
