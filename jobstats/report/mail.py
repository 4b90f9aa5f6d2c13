"""A report as a letter: text, and HTML with pictures as mail programs show it. Sending is left to the scheduler."""

from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from importlib.resources import files

import jinja2

from jobstats.report.building import Built
from jobstats.report.cells import heading, moment, said
from jobstats.report.drawing import drawn, png
from jobstats.report.summary import summary
from jobstats.report.words import STATUS_SIGNS, STATUS_WORDS, period_words

_PICTURES = ("latency", "rates_over_time", "reasons")
"""What is read at the width of a letter."""
_COLORS = {"good": "#1a6b35", "caution": "#7a4a00", "bad": "#a3161f", "unknown": "#55606d"}
_COLUMNS = ("connector", "n", "failure_rate", "retry_rate", "p95_ms", "n_stale")
_MOST = 15
_ROWS = 12


def mail(built: Built) -> bytes:
    """An ``.eml`` file. Boundaries and ids come from the report's key, so the same report is the same letter."""
    report = built.report
    pictures = _pictures(built)
    key = report.provenance.key or "report"
    letter = EmailMessage(policy=SMTP)
    words = f"[{STATUS_WORDS[report.verdict.status]}] {report.title}, {period_words(report.period)}"
    # What looks like an encoded word would be decoded, and could hold a line of its own.
    letter["Subject"] = words.replace("=?", "= ?")
    letter["From"] = Address("jobstats", "jobstats", "localhost")
    if report.period.observed:
        letter["Date"] = format_datetime(report.period.observed)
    letter["Message-ID"] = f"<{key}@jobstats.localhost>"
    letter.set_content(summary(report), cte="quoted-printable")
    letter.add_alternative(_html(built, list(pictures)), subtype="html", cte="quoted-printable")
    page = letter.get_payload()[1]  # type: ignore[index]
    for name, picture in pictures.items():
        page.add_related(picture, "image", "png", cid=f"<{name}@jobstats>", filename=f"{name}.png")  # type: ignore[union-attr]
    for place, part in enumerate(part for part in letter.walk() if part.is_multipart()):
        part.set_boundary(f"=={key}-{place}==")
    return letter.as_bytes()


def _pictures(built: Built) -> dict[str, bytes]:
    """The charts that a letter shows, as pictures: mail programs show no SVG."""
    found: dict[str, bytes] = {}
    exhibits = {exhibit.id: exhibit for section in built.report.sections for exhibit in section.exhibits}
    for name in _PICTURES:
        chart = drawn(exhibits[name], built.frames[name]) if name in exhibits else None
        if chart is not None:
            found[name] = png(chart)
    return found


def _html(built: Built, pictures: list[str]) -> str:
    report = built.report
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(files("jobstats.report").joinpath("mail.html").read_text(encoding="utf-8"))
    exhibits = {exhibit.id: exhibit for section in report.sections for exhibit in section.exhibits}
    names = [column.name for column in report.scorecard.table.columns]
    places = [names.index(name) for name in _COLUMNS]
    page: str = template.render(
        report=report,
        period=period_words(report.period),
        observed=moment(report.period.observed),
        sign=STATUS_SIGNS[report.verdict.status],
        word=STATUS_WORDS[report.verdict.status],
        color=_COLORS[report.verdict.status],
        head=[heading(names[place]) for place in places],
        rows=[
            [said(report.scorecard.table.columns[place].kind, row[place]) for place in places]
            for row in report.scorecard.table.rows[:_ROWS]
        ],
        pictures=[exhibits[name] for name in pictures],
        most=_MOST,
    )
    return page
