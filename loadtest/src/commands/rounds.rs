//! Rounds in which every side is measured once: their course, and the tables of what they gave.

use crate::progress;
use crate::server::Expense;
use crate::stats::Spread;
use crate::table::Table;

use super::subject::Cost;

/// What one side did in one round.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    /// Requests answered in a second.
    pub(super) per_second: f64,
    /// What each of them has cost.
    pub(super) cost: Cost,
    /// The share of its TLS handshakes that resumed a session; `None` without any.
    pub(super) resumed: Option<f64>,
}

/// What all sides did in one round.
pub(super) type Round = Vec<Sample>;

/// Measures every side, of which the names are given, in so many rounds.
pub(super) async fn measure(
    names: &[&str],
    rounds: u32,
    mut measure_side: impl AsyncFnMut(usize) -> anyhow::Result<Sample>,
) -> anyhow::Result<Vec<Round>> {
    let spinner = progress::spinner("measuring");
    let mut measured = Vec::new();
    for round in 0..rounds {
        let mut samples = Vec::with_capacity(names.len());
        for side in order(round, names.len()) {
            spinner.set_message(format!("round {} of {rounds}: {}", round + 1, names[side]));
            samples.push((side, measure_side(side).await?));
        }
        samples.sort_by_key(|(side, _)| *side);
        measured.push(samples.into_iter().map(|(_, sample)| sample).collect());
    }
    spinner.finish_and_clear();
    Ok(measured)
}

/// The order of the sides in a round, counted from 0. Every other round goes the other way round, and
/// each side comes first in turn: what only ever grows, or goes on after a load, would else burden one
/// side.
fn order(round: u32, sides: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..sides).collect();
    order.rotate_left((round / 2) as usize % sides);
    if round % 2 == 1 {
        order.reverse();
    }
    order
}

/// A figure that is shown for each round, where it is known.
pub(super) struct Column<'a, R> {
    heading: String,
    digits: usize,
    value: Value<'a, R>,
}

type Value<'a, R> = Box<dyn Fn(&R) -> Option<f64> + 'a>;

impl<'a, R> Column<'a, R> {
    /// A figure with so many digits behind the point.
    pub(super) fn new(heading: impl Into<String>, digits: usize, value: impl Fn(&R) -> Option<f64> + 'a) -> Self {
        Self { heading: heading.into(), digits, value: Box::new(value) }
    }

    fn show(&self, value: Option<f64>) -> String {
        value.map_or_else(|| "–".to_owned(), |value| format!("{value:.*}", self.digits))
    }
}

type Figure = fn(&Spread) -> f64;

/// A row for each round; then median, lowest and highest of each column. Columns of which nothing is known are left out.
pub(super) fn table<R>(rounds: &[R], columns: &[Column<'_, R>]) -> Table {
    let columns: Vec<_> =
        columns.iter().filter(|column| rounds.iter().any(|round| (column.value)(round).is_some())).collect();
    let headings = columns.iter().map(|column| column.heading.as_str());
    let mut table = Table::with_headings(std::iter::once("round").chain(headings));
    for (index, round) in rounds.iter().enumerate() {
        let cells = columns.iter().map(|column| column.show((column.value)(round)));
        table.row(std::iter::once((index + 1).to_string()).chain(cells));
    }
    let spreads: Vec<Spread> = columns
        .iter()
        .map(|column| Spread::of(rounds.iter().filter_map(&column.value)).expect("others were left out above"))
        .collect();
    let figures: [(&str, Figure); 3] =
        [("median", |spread| spread.median), ("lowest", |spread| spread.min), ("highest", |spread| spread.max)];
    for (name, figure) in figures {
        let cells = columns.iter().zip(&spreads).map(|(column, spread)| column.show(Some(figure(spread))));
        table.row(std::iter::once(name.to_owned()).chain(cells));
    }
    table
}

/// A figure of each side.
pub(super) fn each<'a>(
    names: impl IntoIterator<Item = impl Into<String>>,
    digits: usize,
    figure: fn(&Sample) -> Option<f64>,
) -> Vec<Column<'a, Round>> {
    let column = |(side, name)| Column::new(name, digits, move |round: &Round| figure(&round[side]));
    names.into_iter().enumerate().map(column).collect()
}

/// What this client used for a request, on average over the sides.
pub(super) fn client<'a>() -> Column<'a, Round> {
    Column::new("client µs", 2, |round: &Round| {
        Some(round.iter().map(|sample| sample.cost.client_us).sum::<f64>() / round.len() as f64)
    })
}

/// What Redis used and did for the requests of the sides that keep their fleet there; `None` without any.
pub(super) fn redis_table(rounds: &[Round]) -> Option<Table> {
    let in_redis = |sample: &Sample| Some((sample.cost.server_us?, sample.cost.redis?));
    let rounds: Vec<(f64, Expense)> = rounds.iter().flatten().filter_map(in_redis).collect();
    if rounds.is_empty() {
        return None;
    }
    let columns = [
        Column::new("redis-server µs", 2, |(_, redis): &(f64, Expense)| Some(redis.cpu_us)),
        Column::new("engine + redis-server µs", 2, |(server_us, redis): &(f64, Expense)| {
            Some(server_us + redis.cpu_us)
        }),
        Column::new("commands/1,000", 2, |(_, redis): &(f64, Expense)| Some(redis.commands_per_1000)),
        Column::new("EXEC/1,000", 3, |(_, redis): &(f64, Expense)| Some(redis.transactions_per_1000)),
    ];
    Some(table(&rounds, &columns))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_order_of_the_sides_comes_equally_often() {
        assert_eq!((0..4).map(|round| order(round, 2)).collect::<Vec<_>>(), [[0, 1], [1, 0], [1, 0], [0, 1]]);
        let mut orders: Vec<Vec<usize>> = (0..6).map(|round| order(round, 3)).collect();
        orders.sort();
        orders.dedup();
        assert_eq!(orders.len(), 6);
        assert_eq!(order(7, 1), [0]);
    }

    #[test]
    fn a_table_ends_with_the_spread_of_each_column() {
        let columns = [
            Column::new("a", 0, |round: &(f64, f64)| Some(round.0)),
            Column::new("unknown", 0, |_| None),
            Column::new("a/b", 2, |(a, b)| Some(a / b)),
        ];
        let text = table(&[(3.0, 1.0), (1.0, 2.0), (2.0, 1.0)], &columns).to_string();
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[0], ["round", "a", "a/b"]);
        assert_eq!(rows[2], ["1", "3", "3.00"]);
        assert_eq!(rows[5..], [["median", "2", "2.00"], ["lowest", "1", "0.50"], ["highest", "3", "3.00"]]);
    }
}
