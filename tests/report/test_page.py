from ibkd_mm.report.page import Table, table_html


def test_a_table_has_its_header_and_its_rows_escaped() -> None:
    html = table_html(Table(("model", "AP"), [("A & B <1>", "12.3"), ("C", "-")]))
    assert html == (
        "<table><tr><th>model</th><th>AP</th></tr>"
        "<tr><td>A &amp; B &lt;1&gt;</td><td>12.3</td></tr><tr><td>C</td><td>-</td></tr></table>"
    )
