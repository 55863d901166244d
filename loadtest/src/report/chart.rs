//! Line charts as inline SVG: no scripts, no fonts, no colours but those of the page's style.

use std::fmt::Write;

use super::escape;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 250.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 18.0;
const BOTTOM: f64 = 36.0;
/// About so many ticks an axis has.
const TICKS: f64 = 6.0;
/// More points than these get no text of their own to be shown under the pointer.
const MAX_TITLES: usize = 400;
/// Without a value above it, a logarithmic axis begins here.
const LOG_FLOOR: f64 = 1e-3;

pub(super) struct Series {
    pub(super) name: &'static str,
    /// The style's class: `c1` to `c4`.
    pub(super) class: &'static str,
    /// Where it goes; a `None` interrupts it.
    pub(super) points: Vec<(f64, Option<f64>)>,
}

/// How values are laid out from bottom to top.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    Linear,
    Log,
}

pub(super) struct Chart<'a> {
    pub(super) title: &'static str,
    /// A sentence on how to read it.
    pub(super) note: &'static str,
    pub(super) unit: &'static str,
    pub(super) scale: Scale,
    /// Ticks of the horizontal axis with their labels; `None` for seconds.
    pub(super) x_ticks: Option<Vec<(f64, String)>>,
    /// Upright lines with numbers.
    pub(super) marks: &'a [(f64, usize)],
    pub(super) series: Vec<Series>,
}

/// Where values stand on the page.
struct Frame {
    x: (f64, f64),
    y: (f64, f64),
    scale: Scale,
}

impl Frame {
    fn around(chart: &Chart<'_>) -> Option<Self> {
        let points = || chart.series.iter().flat_map(|series| &series.points);
        let values = || points().filter_map(|(_, value)| *value).filter(|value| value.is_finite());
        let ticks = chart.x_ticks.iter().flatten().map(|(x, _)| *x);
        let (left, right) = bounds(points().map(|(x, _)| *x).chain(ticks))?;
        let (low, high) = bounds(values())?;
        let left = if chart.x_ticks.is_some() { left } else { left.min(0.0) };
        let y = match chart.scale {
            Scale::Linear => (0.0, if high > 0.0 { high * 1.05 } else { 1.0 }),
            Scale::Log => {
                let low = values().filter(|value| *value > 0.0).fold(f64::INFINITY, f64::min).min(high.max(LOG_FLOOR));
                let (low, high) = (low.max(LOG_FLOOR).log10().floor(), high.max(LOG_FLOOR).log10().ceil());
                (low, if high > low { high } else { low + 1.0 })
            }
        };
        debug_assert!(low <= high);
        Some(Self { x: (left, if right > left { right } else { left + 1.0 }), y, scale: chart.scale })
    }

    fn x(&self, x: f64) -> f64 {
        LEFT + (x - self.x.0) / (self.x.1 - self.x.0) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        let value = match self.scale {
            Scale::Linear => value,
            // Zero has no place on it, and stands at the bottom.
            Scale::Log => value.max(LOG_FLOOR).log10().max(self.y.0),
        };
        HEIGHT - BOTTOM - (value - self.y.0) / (self.y.1 - self.y.0) * (HEIGHT - TOP - BOTTOM)
    }

    fn y_ticks(&self) -> Vec<f64> {
        match self.scale {
            Scale::Linear => nice_ticks(self.y.0, self.y.1),
            Scale::Log => (self.y.0 as i32..=self.y.1 as i32).map(|power| 10f64.powi(power)).collect(),
        }
    }
}

impl Chart<'_> {
    /// The chart with its heading; empty if there is nothing to show.
    pub(super) fn draw(&self) -> String {
        let Some(frame) = Frame::around(self) else { return String::new() };
        let mut svg = String::new();
        self.draw_axes(&mut svg, &frame);
        for series in &self.series {
            self.draw_series(&mut svg, &frame, series);
        }
        let legend: String = self
            .series
            .iter()
            .map(|series| format!(r#"<span class="key {}"></span>{} "#, series.class, escape(series.name)))
            .collect();
        format!(
            "<figure>\n<figcaption><h3>{title}</h3><p>{note}</p><p class=\"legend\">{legend}</p></figcaption>\n\
             <svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\">\n{svg}</svg>\n</figure>\n",
            title = escape(self.title),
            note = escape(self.note),
        )
    }

    fn draw_axes(&self, svg: &mut String, frame: &Frame) {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for tick in frame.y_ticks() {
            let y = frame.y(tick);
            line(svg, "grid", (LEFT, y), (right, y));
            text(svg, "end", (LEFT - 6.0, y + 4.0), &number(tick));
        }
        text(svg, "end", (LEFT - 6.0, TOP - 7.0), self.unit);
        let seconds = || nice_ticks(frame.x.0, frame.x.1).into_iter().map(|x| (x, number(x))).collect();
        for (x, label) in self.x_ticks.clone().unwrap_or_else(seconds) {
            line(svg, "grid", (frame.x(x), bottom), (frame.x(x), bottom + 4.0));
            text(svg, "middle", (frame.x(x), bottom + 17.0), &label);
        }
        if self.x_ticks.is_none() {
            text(svg, "end", (right, HEIGHT - 4.0), "seconds");
        }
        line(svg, "axis", (LEFT, bottom), (right, bottom));
        for (at, mark) in self.marks.iter().filter(|(at, _)| (frame.x.0..=frame.x.1).contains(at)) {
            line(svg, "mark", (frame.x(*at), TOP), (frame.x(*at), bottom));
            text(svg, "middle", (frame.x(*at), TOP - 5.0), &mark.to_string());
        }
    }

    fn draw_series(&self, svg: &mut String, frame: &Frame, series: &Series) {
        let drawn = |value: &Option<f64>| value.filter(|value| value.is_finite());
        for segment in series.points.split(|(_, value)| drawn(value).is_none()) {
            let spots: Vec<String> = segment
                .iter()
                .filter_map(|(x, value)| Some(format!("{:.1},{:.1}", frame.x(*x), frame.y((*value)?))))
                .collect();
            match spots.as_slice() {
                [] => {}
                [alone] => {
                    let (x, y) = alone.split_once(',').expect("written above");
                    let _ = writeln!(svg, r#"<circle class="dot {}" cx="{x}" cy="{y}" r="2"/>"#, series.class);
                }
                spots => {
                    let _ = writeln!(svg, r#"<polyline class="{}" points="{}"/>"#, series.class, spots.join(" "));
                }
            }
        }
        if series.points.len() > MAX_TITLES {
            return;
        }
        for (x, value) in &series.points {
            let Some(value) = drawn(value) else { continue };
            let tick = self.x_ticks.iter().flatten().find(|(tick, _)| tick == x);
            let at = tick.map_or_else(|| format!("{x:.1}"), |(_, label)| label.clone());
            let _ = writeln!(
                svg,
                r#"<circle class="spot" cx="{:.1}" cy="{:.1}" r="6"><title>{}: {}, {} {}</title></circle>"#,
                frame.x(*x),
                frame.y(value),
                escape(&at),
                escape(series.name),
                number(value),
                escape(self.unit)
            );
        }
    }
}

fn line(svg: &mut String, class: &str, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
    let _ = writeln!(svg, r#"<line class="{class}" x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}"/>"#);
}

fn text(svg: &mut String, anchor: &str, (x, y): (f64, f64), text: &str) {
    let _ = writeln!(svg, r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{}</text>"#, escape(text));
}

fn bounds(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.filter(|value| value.is_finite()).fold(None, |bounds, value| {
        let (low, high) = bounds.unwrap_or((value, value));
        Some((low.min(value), high.max(value)))
    })
}

/// Round numbers between two others: 1, 2 or 5 times a power of ten apart.
fn nice_ticks(low: f64, high: f64) -> Vec<f64> {
    let rough = (high - low) / TICKS;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| *step >= rough);
    let step = step.unwrap_or(rough);
    let first = (low / step).ceil() as i64;
    (first..).map(|tick| tick as f64 * step).take_while(|tick| *tick <= high + step * 1e-9).collect()
}

/// A number as short as it can be said: `0.05`, `12.5`, `40k`.
fn number(value: f64) -> String {
    let (scaled, suffix) = match value.abs() {
        1e6.. => (value / 1e6, "M"),
        1e4.. => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let digits = match scaled.abs() {
        100.0.. => 0,
        10.0.. => 1,
        1.0.. => 2,
        _ => 4,
    };
    let shown = format!("{scaled:.digits$}");
    let shown = if shown.contains('.') { shown.trim_end_matches('0').trim_end_matches('.') } else { &shown };
    format!("{shown}{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(scale: Scale, points: Vec<(f64, Option<f64>)>) -> String {
        let series = vec![Series { name: "a & b", class: "c1", points }];
        Chart { title: "<title>", note: "", unit: "ms", scale, x_ticks: None, marks: &[(1.0, 1)], series }.draw()
    }

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(nice_ticks(0.0, 10.0), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(nice_ticks(0.0, 0.31).len(), 4);
        assert_eq!(nice_ticks(3.0, 47.0), [10.0, 20.0, 30.0, 40.0]);
    }

    #[test]
    fn numbers_are_short() {
        for (value, shown) in
            [(0.0, "0"), (0.05, "0.05"), (12.5, "12.5"), (250.0, "250"), (40_000.0, "40k"), (2e6, "2M")]
        {
            assert_eq!(number(value), shown);
        }
    }

    #[test]
    fn everything_lies_within_the_frame() {
        for scale in [Scale::Linear, Scale::Log] {
            let points = vec![(0.0, Some(0.0)), (1.0, Some(5.0)), (2.0, Some(5_000.0)), (3.0, Some(0.2))];
            let svg = chart(scale, points);
            let line = svg.split("points=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a line");
            for spot in line.split(' ') {
                let (x, y) = spot.split_once(',').expect("x and y");
                let (x, y): (f64, f64) = (x.parse().expect("x"), y.parse().expect("y"));
                assert!(
                    (LEFT..=WIDTH - RIGHT).contains(&x) && (TOP - 0.1..=HEIGHT - BOTTOM + 0.1).contains(&y),
                    "{spot}"
                );
            }
        }
    }

    #[test]
    fn a_gap_interrupts_the_line_and_texts_are_escaped() {
        let svg = chart(Scale::Linear, vec![(0.0, Some(1.0)), (1.0, Some(1.0)), (2.0, None), (3.0, Some(2.0))]);
        assert_eq!((svg.matches("<polyline").count(), svg.matches("class=\"dot c1\"").count()), (1, 1));
        assert!(svg.contains("&lt;title&gt;") && svg.contains("a &amp; b"));
    }

    #[test]
    fn a_chart_without_values_is_left_out() {
        assert_eq!(chart(Scale::Log, Vec::new()), "");
        assert_eq!(chart(Scale::Log, vec![(0.0, None)]), "");
    }
}
