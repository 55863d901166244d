//! A plain text table: the first column to the left, figures to the right.

use std::fmt;

use serde::Serialize;

/// Rows of cells under optional headings, printed with aligned columns.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Table {
    pub(crate) headings: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

/// Tables with their titles, each of which is printed as soon as it is there.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Tables(pub(crate) Vec<(String, Table)>);

impl Tables {
    pub(crate) fn add(&mut self, title: impl Into<String>, table: Table) {
        let title = title.into();
        println!("{title}\n{table}");
        self.0.push((title, table));
    }

    #[cfg(test)]
    pub(crate) fn example(text: &str) -> Self {
        Self(vec![(text.to_owned(), Table { headings: vec![text.to_owned()], rows: vec![vec![text.to_owned()]] })])
    }
}

impl Table {
    pub(crate) fn with_headings(headings: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { headings: headings.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    pub(crate) fn pair(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.rows.push(vec![name.into(), value.into()]);
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths: Vec<usize> = Vec::new();
        for row in self.rows.iter().chain(std::iter::once(&self.headings)) {
            for (column, cell) in row.iter().enumerate() {
                let width = cell.chars().count();
                match widths.get_mut(column) {
                    Some(widest) => *widest = width.max(*widest),
                    None => widths.push(width),
                }
            }
        }
        widths
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        let mut line = |cells: &[String]| -> fmt::Result {
            for (column, (cell, width)) in cells.iter().zip(&widths).enumerate() {
                if column == 0 {
                    write!(f, "  {cell:<width$}")?;
                } else {
                    write!(f, "  {cell:>width$}")?;
                }
            }
            writeln!(f)
        };
        if !self.headings.is_empty() {
            line(&self.headings)?;
            let rules: Vec<String> = widths.iter().map(|width| "─".repeat(*width)).collect();
            line(&rules)?;
        }
        self.rows.iter().try_for_each(|row| line(row))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_left_and_figures_right() {
        let mut table = Table::with_headings(["round", "µs"]);
        table.row(["1".to_owned(), "13.4".to_owned()]);
        table.row(["median".to_owned(), "9.1".to_owned()]);
        assert_eq!(table.to_string(), "  round     µs\n  ──────  ────\n  1       13.4\n  median   9.1\n");
    }
}
