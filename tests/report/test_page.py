from ibkd_mm.report.page import table
from ibkd_mm.report.tables import TextTable


def test_a_table_has_its_header_and_its_rows_escaped() -> None:
    html = table(TextTable(("model", "AP"), [("A & B <1>", "12.3"), ("C", "-")]))
    assert html == (
        '<div class="wide"><table><tr><th>model</th><th>AP</th></tr>'
        "<tr><td>A &amp; B &lt;1&gt;</td><td>12.3</td></tr><tr><td>C</td><td>-</td></tr></table></div>"
    )
