"""Self-contained HTML pages: no scripts, no fonts, nothing from a network. Pictures are inline SVG."""
