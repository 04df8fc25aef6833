"""Texts that mean something to spreadsheets, browsers, terminals, Markdown and SQL."""

HOSTILE = [
    "=cmd|'/c calc'!A1",
    '@SUM(1+1)*cmd|"/c calc"!A1',
    "<img src=x onerror=alert(1)><script>alert(1)</script>",
    "![seen](http://evil.example/seen.png) [go](javascript:alert(1))",
    "http://evil.example HTTPS://evil.example www.evil.example me@evil.example",
    "**bold** _italic_ ~~gone~~ `code` # no head",
    "a|b\\|c\\\\|d &lt;b&gt; &#60;",
    "\u202egnip.exe\u202c \u200fright\u200e \u2066isolated\u2069",
    "bell\x07 \x1b[31mred \x7f\x9b",
    "line\nbreak\r\n\ttab | - | -",
    "'; drop table listings; --",
    "long " * 1000,
]
