//! Columns of text.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

/// Rows under their headers, two spaces between the columns, each line ended. A row has as many cells
/// as there are headers.
pub(super) fn table<const COLUMNS: usize>(
    headers: [(&str, Align); COLUMNS],
    rows: &[[String; COLUMNS]],
) -> String {
    let mut widths = headers.map(|(header, _)| header.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let aligns = headers.map(|(_, align)| align);
    let mut text = line(&headers.map(|(header, _)| header.to_owned()), aligns, widths);
    for row in rows {
        text.push_str(&line(row, aligns, widths));
    }
    text
}

fn line<const COLUMNS: usize>(
    cells: &[String; COLUMNS],
    aligns: [Align; COLUMNS],
    widths: [usize; COLUMNS],
) -> String {
    let padded: Vec<String> = cells
        .iter()
        .zip(aligns)
        .zip(widths)
        .map(|((cell, align), width)| match align {
            Align::Left => format!("{cell:<width$}"),
            Align::Right => format!("{cell:>width$}"),
        })
        .collect();
    format!("{}\n", padded.join("  ").trim_end())
}

/// Text of a foreign origin with its control characters escaped: a terminal obeys those.
pub(super) fn plain(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["a→b".to_owned(), "1".to_owned()], ["c".to_owned(), "12345".to_owned()]];
        assert_eq!(
            table([("WAY", Align::Left), ("N", Align::Right)], &rows),
            "WAY      N\na→b      1\nc    12345\n"
        );
    }

    #[test]
    fn terminals_are_given_no_orders() {
        assert_eq!(plain("a\x1b[2Jé\n"), "a\\u{1b}[2Jé\\n");
    }
}
