//! Charts as data: what a page draws and also states as JSON.

use query_adapter::math::ln;
use serde::Serialize;

/// Where the plane of a chart begins and ends, in the units of its drawing, of which it is 360 wide. On a telephone a unit
/// is about a pixel, so that text can be read there.
const LEFT: f64 = 48.0;
const RIGHT: f64 = 346.0;
const TOP: f64 = 22.0;
const BELOW: f64 = 36.0;

/// Radius of the largest mark whose area is a number.
const MOST_RADIUS: f64 = 15.0;

/// Radius of a ring, which goes around a disc.
const RING_RADIUS: f64 = 6.0;

/// Radius of the smallest, and of marks without a number.
const LEAST_RADIUS: f64 = 2.4;

/// A chart.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Chart {
    /// Its name in the page.
    pub(super) id: &'static str,
    pub(super) title: String,
    /// What it shows, for those who do not see it.
    pub(super) description: String,
    pub(super) x: Axis,
    pub(super) y: Axis,
    /// Drawn in this order.
    pub(super) series: Vec<Series>,
    pub(super) height: f64,
    #[serde(skip)]
    pub(super) words: Vec<Word>,
}

/// A word in the plane of a chart.
#[derive(Clone, Debug)]
pub(super) struct Word {
    /// Where it is, from the left and from the top, as parts of the plane.
    pub(super) at: [f64; 2],
    /// `start` or `end`.
    pub(super) anchor: &'static str,
    pub(super) text: &'static str,
}

/// How values become places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Scale {
    Linear,
    /// Equal ratios are equal distances; values above 0.
    Log,
}

/// One of the two directions.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Axis {
    pub(super) label: String,
    pub(super) scale: Scale,
    /// The values at its two ends,
    pub(super) domain: [f64; 2],
    /// and where these are in the drawing.
    pub(super) range: [f64; 2],
    #[serde(skip)]
    pub(super) ticks: Vec<Tick>,
}

/// A value that is written at its place.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tick {
    pub(super) value: f64,
    pub(super) label: String,
}

/// Values that belong together.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Series {
    /// For the legend; empty where it is not in there.
    pub(super) name: String,
    pub(super) marks: Marks,
    pub(super) tone: Tone,
    pub(super) points: Vec<Point>,
}

/// What is drawn for a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Marks {
    /// A line through the points.
    Line,
    /// A broken line.
    Guide,
    /// A disc at each, whose area is its size.
    Discs,
    /// A ring at each.
    Rings,
    /// A square at each.
    Squares,
    /// A line from each to where it goes, with a disc at its end.
    Moves,
    /// A disc at each, and a line from the lower to the upper end of its interval.
    Intervals,
}

/// What a colour says, the same in all of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Tone {
    Base,
    Adapted,
    Gain,
    Loss,
    Same,
    Document,
    Quiet,
}

/// A value.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Point {
    pub(super) x: f64,
    pub(super) y: f64,
    /// Where it moves to; of an interval the ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) to: Option<[f64; 2]>,
    /// How many it stands for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) size: Option<usize>,
    /// What is said of it where a pointer rests on it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) label: String,
}

impl Chart {
    /// An empty chart of a height; the axes get their places.
    pub(super) fn new(id: &'static str, title: &str, height: f64, mut x: Axis, mut y: Axis) -> Self {
        x.range = [LEFT, RIGHT];
        y.range = [height - BELOW, TOP];
        Self {
            id,
            title: title.to_owned(),
            description: String::new(),
            x,
            y,
            series: Vec::new(),
            height,
            words: Vec::new(),
        }
    }

    /// The series of the legend.
    pub(super) fn legend(&self) -> impl Iterator<Item = &Series> {
        self.series.iter().filter(|series| !series.name.is_empty() && !series.points.is_empty())
    }

    pub(super) fn has_legend(&self) -> bool {
        self.legend().next().is_some()
    }

    /// Whether the ticks of y are names of rows, which stand above them.
    pub(super) fn has_rows(&self) -> bool {
        self.series.iter().any(|series| series.marks == Marks::Intervals)
    }

    /// Whether its directions are without numbers.
    pub(super) fn is_bare(&self) -> bool {
        self.x.ticks.is_empty() && self.y.ticks.is_empty()
    }

    fn radius(&self, marks: Marks, point: &Point) -> f64 {
        if marks == Marks::Rings {
            return RING_RADIUS;
        }
        let sizes = self.series.iter().flat_map(|series| &series.points).filter_map(|point| point.size);
        match (point.size, sizes.max()) {
            (Some(size), Some(most)) if most > 0 => {
                let radius = MOST_RADIUS * (size as f64 / most as f64).sqrt();
                if radius < LEAST_RADIUS { LEAST_RADIUS } else { radius }
            }
            _ => LEAST_RADIUS,
        }
    }
}

/// What the template asks for: lengths as text.
impl Chart {
    pub(super) fn radius_of(&self, series: &Series, point: &Point) -> String {
        length(self.radius(series.marks, point))
    }

    pub(super) fn at_x(&self, point: &Point) -> String {
        length(self.x.place(point.x))
    }

    pub(super) fn at_y(&self, point: &Point) -> String {
        length(self.y.place(point.y))
    }

    /// Where a point moves to.
    pub(super) fn to_x(&self, point: &Point) -> String {
        length(self.x.place(point.to.map_or(point.x, |to| to[0])))
    }

    pub(super) fn to_y(&self, point: &Point) -> String {
        length(self.y.place(point.to.map_or(point.y, |to| to[1])))
    }

    /// The ends of an interval.
    pub(super) fn low_x(&self, point: &Point) -> String {
        self.to_x(point)
    }

    pub(super) fn high_x(&self, point: &Point) -> String {
        length(self.x.place(point.to.map_or(point.x, |to| to[1])))
    }

    /// The points of a line.
    pub(super) fn path(&self, series: &Series) -> String {
        let places = series.points.iter().map(|point| format!("{},{}", self.at_x(point), self.at_y(point)));
        places.collect::<Vec<_>>().join(" ")
    }

    pub(super) fn tick_x(&self, tick: &Tick) -> String {
        length(self.x.place(tick.value))
    }

    pub(super) fn tick_y(&self, tick: &Tick) -> String {
        length(self.y.place(tick.value))
    }

    pub(super) fn above_row(&self, tick: &Tick) -> String {
        length(self.y.place(tick.value) - 10.0)
    }

    pub(super) fn word_x(&self, word: &Word) -> String {
        let [left, right] = self.x.range;
        length(left + word.at[0] * (right - left))
    }

    pub(super) fn word_y(&self, word: &Word) -> String {
        let [bottom, top] = self.y.range;
        length(top + word.at[1] * (bottom - top))
    }

    pub(super) fn left(&self) -> String {
        length(self.x.range[0])
    }

    pub(super) fn right(&self) -> String {
        length(self.x.range[1])
    }

    pub(super) fn top(&self) -> String {
        length(self.y.range[1])
    }

    pub(super) fn bottom(&self) -> String {
        length(self.y.range[0])
    }

    /// How wide and high its plane is.
    pub(super) fn across(&self) -> String {
        length(self.x.range[1] - self.x.range[0])
    }

    pub(super) fn up(&self) -> String {
        length(self.y.range[0] - self.y.range[1])
    }

    /// Where the labels of the ticks stand.
    pub(super) fn left_of_plane(&self) -> String {
        length(self.x.range[0] - 6.0)
    }

    pub(super) fn below_plane(&self) -> String {
        length(self.y.range[0] + 14.0)
    }

    /// Where the name of x stands.
    pub(super) fn below_ticks(&self) -> String {
        length(self.y.range[0] + 30.0)
    }
}

/// A length in a drawing.
fn length(value: f64) -> String {
    let text = format!("{value:.2}");
    match text.strip_prefix('-') {
        Some("0.00") => "0.00".to_owned(),
        _ => text,
    }
}

impl Axis {
    /// An axis over these values with these ticks.
    pub(super) fn new(label: &str, scale: Scale, domain: [f64; 2], ticks: Vec<Tick>) -> Self {
        Self { label: label.to_owned(), scale, domain, range: [0.0, 1.0], ticks }
    }

    /// A linear axis over all of `values`, from one round number to another.
    pub(super) fn round(label: &str, values: impl Iterator<Item = f64>) -> Self {
        let finite = values.filter(|value| value.is_finite());
        let (low, high) = finite
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        let ticks = round_ticks(low, high);
        let ends = match (ticks.first(), ticks.last()) {
            (Some(first), Some(last)) => [first.value, last.value],
            _ => [0.0, 1.0],
        };
        Self::new(label, Scale::Linear, ends, ticks)
    }

    /// Where a value is.
    pub(super) fn place(&self, value: f64) -> f64 {
        let ([from, to], [start, end]) = (self.domain, self.range);
        let part = match self.scale {
            Scale::Linear => (value - from) / (to - from),
            Scale::Log => logarithm(value / from) / logarithm(to / from),
        };
        start + part * (end - start)
    }
}

impl Point {
    pub(super) fn new(x: f64, y: f64) -> Self {
        Self { x, y, ..Self::default() }
    }
}

impl Marks {
    /// The class of the style sheet.
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Line => "line",
            Self::Guide => "guide",
            Self::Discs => "discs",
            Self::Rings => "rings",
            Self::Squares => "squares",
            Self::Moves => "moves",
            Self::Intervals => "intervals",
        }
    }
}

impl Tone {
    /// The class of the style sheet.
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Adapted => "adapted",
            Self::Gain => "gain",
            Self::Loss => "loss",
            Self::Same => "same",
            Self::Document => "document",
            Self::Quiet => "quiet",
        }
    }
}

/// To seven digits, the same ones on every machine: more than a drawing needs.
#[allow(clippy::cast_possible_truncation, reason = "a drawing needs no more")]
fn logarithm(value: f64) -> f64 {
    f64::from(ln(value as f32))
}

/// Ticks for these values, each as it is.
pub(super) fn ticks_at<T: Copy + Into<f64> + ToString>(values: &[T]) -> Vec<Tick> {
    values.iter().map(|&value| Tick { value: value.into(), label: value.to_string() }).collect()
}

/// Four to eight round numbers from at most `low` to at least `high`.
fn round_ticks(low: f64, high: f64) -> Vec<Tick> {
    const MOST: f64 = 6.0;
    let (low, high) = match (low.is_finite() && high.is_finite(), low < high) {
        (false, _) => (0.0, 1.0),
        (true, true) => (low, high),
        // A single value gets some room.
        (true, false) => (low - 0.05 * (1.0 + low.abs()), low + 0.05 * (1.0 + low.abs())),
    };
    // The step is `lead` in the last of `decimals` places, or `lead × unit` where there are none. Of whole numbers no
    // digit is lost.
    let (mut decimals, mut unit) = (0_usize, 1.0);
    while (high - low) / unit > MOST * 5.0 && unit < 1e15 {
        unit *= 10.0;
    }
    let mut parts = 1.0;
    while unit == 1.0 && (high - low) * parts < 3.0 && decimals < 12 {
        parts *= 10.0;
        decimals += 1;
    }
    let scaled = |value: f64| value / unit * parts;
    let span = scaled(high) - scaled(low);
    let lead = [1.0, 2.0, 5.0, 10.0, 20.0].into_iter().find(|lead| span / lead <= MOST).unwrap_or(50.0);
    let (first, last) = ((scaled(low) / lead).floor(), (scaled(high) / lead).ceil());
    let mut ticks = Vec::new();
    let mut at = first;
    while at <= last && ticks.len() < 12 {
        let value = at * lead / parts * unit;
        // Not "-0".
        let value = if value == 0.0 { 0.0 } else { value };
        ticks.push(Tick { value, label: format!("{value:.decimals$}").replace('-', "\u{2212}") });
        at += 1.0;
    }
    ticks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(low: f64, high: f64) -> Vec<String> {
        round_ticks(low, high).into_iter().map(|tick| tick.label).collect()
    }

    #[test]
    fn ticks_are_round_and_enclose_the_values() {
        assert_eq!(labels(0.0, 1.0), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(labels(0.631, 0.689), ["0.63", "0.64", "0.65", "0.66", "0.67", "0.68", "0.69"]);
        assert_eq!(labels(-0.02, 0.21), ["\u{2212}0.05", "0.00", "0.05", "0.10", "0.15", "0.20", "0.25"]);
        assert_eq!(labels(0.0, 1234.0), ["0", "500", "1000", "1500"]);
        for (low, high) in
            [(0.0, 1e-9), (3.0, 3.0), (-1e9, 1e9), (f64::INFINITY, f64::NEG_INFINITY), (0.0, 0.0)]
        {
            let ticks = round_ticks(low, high);
            assert!((2..=12).contains(&ticks.len()), "{low} {high}: {ticks:?}");
            let ends = (ticks[0].value, ticks[ticks.len() - 1].value);
            assert!(!low.is_finite() || (ends.0 <= low && ends.1 >= high), "{low} {high}: {ends:?}");
            assert!(ticks.windows(2).all(|pair| pair[0].value < pair[1].value), "{ticks:?}");
        }
    }

    #[test]
    fn values_are_where_the_scale_says() {
        let mut axis = Axis::new("rank", Scale::Log, [1.0, 100.0], Vec::new());
        axis.range = [40.0, 340.0];
        assert_eq!(
            [1.0, 10.0, 100.0].map(|value| (axis.place(value) * 1e4).round() / 1e4),
            [40.0, 190.0, 340.0]
        );
        let mut axis = Axis::new("gain", Scale::Linear, [-1.0, 1.0], Vec::new());
        axis.range = [200.0, 20.0];
        assert_eq!([-1.0, 0.0, 1.0].map(|value| axis.place(value)), [200.0, 110.0, 20.0]);
    }

    #[test]
    fn the_area_of_a_disc_is_its_number() {
        let axis = || Axis::round("", [0.0, 1.0].into_iter());
        let mut chart = Chart::new("x", "", 100.0, axis(), axis());
        let points = [1, 25, 100].map(|size| Point { size: Some(size), ..Point::default() }).to_vec();
        chart.series.push(Series { name: String::new(), marks: Marks::Discs, tone: Tone::Same, points });
        let radii: Vec<f64> =
            chart.series[0].points.iter().map(|point| chart.radius(Marks::Discs, point)).collect();
        assert_eq!(radii, [LEAST_RADIUS, MOST_RADIUS / 2.0, MOST_RADIUS]);
    }
}
