//! Rounds in which every side is measured once: their order, and the tables of what they gave. Pure.

use crate::load::Operation;
use crate::server::{Cost, Expense};
use crate::stats::Spread;
use crate::table::Table;
use crate::wire::Opened;

#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    pub(super) per_second: f64,
    pub(super) cost: Cost,
    pub(super) opened: Opened,
}

/// What all sides did in one round.
pub(super) type Round = Vec<Sample>;

/// The order of the sides in a round, counted from 0. Every other round goes the other way round, and
/// each side comes first in turn: what only ever grows, or goes on after a load, would else burden one
/// side.
pub(super) fn order(round: u64, sides: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..sides).collect();
    order.rotate_left((round / 2) as usize % sides);
    if round % 2 == 1 {
        order.reverse();
    }
    order
}

/// The first side's figure as a ratio to the last's: the median.
pub(super) fn ratio(rounds: &[Round], figure: fn(&Sample) -> Option<f64>) -> Option<f64> {
    let of_round = |round: &Round| Some(figure(round.first()?)? / figure(round.last()?)?);
    Some(Spread::of(rounds.iter().filter_map(of_round))?.median)
}

/// All that is shown of a comparison of so many sides.
pub(super) fn tables(operation: Operation, names: &[&str], rounds: &[Round]) -> Vec<(String, Table)> {
    let what = match operation {
        Operation::Beat => "heartbeat",
        Operation::Report(_) => "report",
        Operation::Register => "registration",
        Operation::Deregister => "deregistration",
    };
    let mut costs = versus(names, rounds, 2, |sample| sample.cost.server_us);
    // On average over the sides.
    let client = |round: &Round| round.iter().map(|sample| sample.cost.client_us).sum::<f64>() / round.len() as f64;
    costs.push(Column::of("client µs", 2, rounds.iter().map(|round| Some(client(round)))));
    let rates = versus(names, rounds, 0, |sample| Some(sample.per_second));
    let mut shown = vec![
        (format!("Processor time of the server per {what}, µs"), table(costs)),
        (format!("Answered {what}s per second"), table(rates)),
    ];
    let in_redis = |sample: &Sample| Some((sample.cost.server_us?, sample.cost.redis?));
    let redis: Vec<(f64, Expense)> = rounds.iter().flatten().filter_map(in_redis).collect();
    if !redis.is_empty() {
        let columns = vec![
            Column::of("redis-server µs", 2, redis.iter().map(|(_, redis)| Some(redis.cpu_us))),
            Column::of("engine + redis-server µs", 2, redis.iter().map(|(engine, redis)| Some(engine + redis.cpu_us))),
            Column::of("commands/1,000", 2, redis.iter().map(|(_, redis)| Some(redis.commands_per_1000))),
            Column::of("EXEC/1,000", 3, redis.iter().map(|(_, redis)| Some(redis.transactions_per_1000))),
        ];
        shown.push(("What Redis does for them".to_owned(), table(columns)));
    }
    // Connections that are kept, without TLS, were opened before.
    if rounds.iter().flatten().any(|sample| sample.opened.connections > 0) {
        let title = "Connections that were opened, TLS handshakes, and the share of these that resumed a session";
        shown.push((title.to_owned(), aligned(&opened(names, rounds))));
    }
    shown
}

/// A figure of each round, where it is known.
struct Column {
    heading: String,
    digits: usize,
    values: Vec<Option<f64>>,
}

impl Column {
    fn of(heading: impl Into<String>, digits: usize, values: impl Iterator<Item = Option<f64>>) -> Self {
        Self { heading: heading.into(), digits, values: values.collect() }
    }

    fn show(&self, value: Option<f64>) -> String {
        value.map_or_else(|| "–".to_owned(), |value| format!("{value:.*}", self.digits))
    }
}

type Figure = fn(&Sample) -> Option<f64>;
type OfSpread = fn(&Spread) -> f64;

/// As [`aligned`], without columns of which nothing is known.
fn table(mut columns: Vec<Column>) -> Table {
    columns.retain(|column| column.values.iter().any(Option::is_some));
    aligned(&columns)
}

/// A row for each round; then median, lowest and highest of each column.
fn aligned(columns: &[Column]) -> Table {
    let headings = columns.iter().map(|column| column.heading.as_str());
    let mut table = Table::with_headings(std::iter::once("round").chain(headings));
    for round in 0..columns.first().map_or(0, |column| column.values.len()) {
        let cells = columns.iter().map(|column| column.show(column.values[round]));
        table.row(std::iter::once((round + 1).to_string()).chain(cells));
    }
    let figures: [(&str, OfSpread); 3] =
        [("median", |spread| spread.median), ("lowest", |spread| spread.min), ("highest", |spread| spread.max)];
    for (name, figure) in figures {
        let spread = |column: &Column| Spread::of(column.values.iter().flatten().copied());
        let cells = columns.iter().map(|column| column.show(spread(column).as_ref().map(figure)));
        table.row(std::iter::once(name.to_owned()).chain(cells));
    }
    table
}

/// A figure of each side.
fn each(names: &[&str], rounds: &[Round], digits: usize, figure: Figure) -> Vec<Column> {
    let column = |(side, name): (usize, &&str)| {
        Column::of(*name, digits, rounds.iter().map(move |round: &Round| figure(&round[side])))
    };
    names.iter().enumerate().map(column).collect()
}

/// What was opened to each side: the same columns for all of them, so that one without a handshake is seen to have none.
fn opened(names: &[&str], rounds: &[Round]) -> Vec<Column> {
    let figures: [(&str, usize, Figure); 3] = [
        ("connections", 0, |sample| Some(sample.opened.connections as f64)),
        ("handshakes", 0, |sample| Some(sample.opened.handshakes() as f64)),
        ("resumed", 3, |sample| sample.opened.resumed_share()),
    ];
    let columns = |(side, name): (usize, &&str)| {
        figures.map(|(what, digits, figure)| {
            Column::of(format!("{name} {what}"), digits, rounds.iter().map(|round| figure(&round[side])))
        })
    };
    names.iter().enumerate().flat_map(columns).collect()
}

/// A figure of each side, and each but the last as a ratio to the last.
fn versus(names: &[&str], rounds: &[Round], digits: usize, figure: Figure) -> Vec<Column> {
    let last = names.len() - 1;
    let ratio = |(side, name): (usize, &&str)| {
        let ratio = move |round: &Round| Some(figure(&round[side])? / figure(&round[last])?);
        Column::of(format!("{name}/{}", names[last]), 3, rounds.iter().map(ratio))
    };
    let ratios = names[..last].iter().enumerate().map(ratio);
    each(names, rounds, digits, figure).into_iter().chain(ratios).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(server_us: f64, per_second: f64) -> Sample {
        Sample {
            per_second,
            cost: Cost { server_us: Some(server_us), client_us: 5.0, redis: None },
            opened: Opened::default(),
        }
    }

    fn report(names: &[&str], rounds: &[Round]) -> Vec<Vec<String>> {
        tables(Operation::Beat, names, rounds).iter().map(|(_, table)| medians(table)).collect()
    }

    fn medians(table: &Table) -> Vec<String> {
        let text = table.to_string();
        let row = text.lines().find(|line| line.contains("median")).expect("a median");
        row.split_whitespace().skip(1).map(str::to_owned).collect()
    }

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
        let columns = vec![
            Column::of("a", 0, [3.0, 1.0, 2.0].map(Some).into_iter()),
            Column::of("unknown", 0, [None; 3].into_iter()),
            Column::of("a/b", 2, [3.0, 0.5, 2.0].map(Some).into_iter()),
        ];
        let text = table(columns).to_string();
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[0], ["round", "a", "a/b"]);
        assert_eq!(rows[2], ["1", "3", "3.00"]);
        assert_eq!(rows[5..], [["median", "2", "2.00"], ["lowest", "1", "0.50"], ["highest", "3", "3.00"]]);
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let rounds = [
            vec![sample(20.0, 10.0), sample(10.0, 20.0)],
            vec![sample(30.0, 10.0), sample(30.0, 10.0)],
            vec![sample(15.0, 10.0), sample(10.0, 10.0)],
        ];
        let expected = [&["20.00", "10.00", "1.500", "5.00"], &["10", "10", "1.000"][..]];
        assert_eq!(report(&["embedded", "bare"], &rounds), expected);
        assert_eq!(ratio(&rounds, |sample| sample.cost.server_us), Some(1.5));
    }

    #[test]
    fn a_side_in_redis_is_compared_as_well_and_says_what_redis_did() {
        let expense = Expense { cpu_us: 2.0, commands_per_1000: 30.0, transactions_per_1000: 0.5 };
        let mut in_redis = sample(30.0, 5.0);
        in_redis.cost.redis = Some(expense);
        let rounds = [vec![sample(20.0, 10.0), in_redis, sample(10.0, 10.0)]];
        let expected = [
            &["20.00", "30.00", "10.00", "2.000", "3.000", "5.00"],
            &["10", "5", "10", "1.000", "0.500"][..],
            &["2.00", "32.00", "30.00", "0.500"],
        ];
        assert_eq!(report(&["embedded", "redis", "bare"], &rounds), expected);
    }

    #[test]
    fn of_a_server_that_does_not_tell_its_processor_time_only_rates_are_compared() {
        let mut other = sample(0.0, 5.0);
        other.cost.server_us = None;
        let rounds = [vec![sample(20.0, 10.0), other]];
        assert_eq!(report(&["embedded", "url"], &rounds), [&["20.00", "5.00"], &["10", "5", "2.000"][..]]);
        assert_eq!(ratio(&rounds, |sample| sample.cost.server_us), None);
    }

    #[test]
    fn every_side_tells_its_connections_and_handshakes_where_any_were_opened() {
        let (mut with_tls, mut plain) = (sample(20.0, 10.0), sample(10.0, 20.0));
        with_tls.opened = Opened::of(40, 10, 30);
        plain.opened = Opened::of(80, 0, 0);
        let tables = tables(Operation::Beat, &["embedded", "bare"], &[vec![with_tls, plain]]);
        let [.., (_, table)] = tables.as_slice() else { panic!("no table") };
        let of = |side| ["connections", "handshakes", "resumed"].map(|what| format!("{side} {what}"));
        assert_eq!(table.headings[1..], [of("embedded"), of("bare")].concat());
        assert_eq!(medians(table), ["40", "40", "0.750", "80", "0", "–"]);
        let kept = [vec![sample(20.0, 10.0), sample(10.0, 20.0)]];
        assert_eq!(report(&["embedded", "bare"], &kept).len(), 2, "nothing was opened");
    }
}
