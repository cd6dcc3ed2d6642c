//! How a run went: its losses, and what validation said along the way.

use serde::Serialize;

use super::chart::{Axis, Chart, Marks, Point, Scale, Series, Tick, Tone, ticks_at};
use super::headline::number;
use crate::auto::choice::Choice;
use crate::auto::trials::Trial;
use crate::fit::{Epoch, LossCurve};

const HEIGHT: f64 = 230.0;

/// The loss of a run, step by step and epoch by epoch.
pub(crate) fn loss(curve: &LossCurve, epochs: &[Epoch]) -> Chart {
    let steps: Vec<Point> = curve.points().map(|(step, loss)| Point::new(f64::from(step), loss)).collect();
    let per_epoch = f64::from(curve.steps()) / epochs.len().max(1) as f64;
    let of_epoch = |(number, epoch): (u32, &Epoch)| Point {
        label: format!("epoch {number}: mean loss {:.4}", epoch.loss),
        ..Point::new(f64::from(number) * per_epoch, epoch.loss)
    };
    let epochs: Vec<Point> = (1..).zip(epochs).map(of_epoch).collect();
    let x = Axis {
        domain: [0.0, f64::from(curve.steps())],
        ..Axis::round("step", [0.0, f64::from(curve.steps())].into_iter())
    };
    let x = within_domain(x);
    let all = steps.iter().chain(&epochs).map(|point| point.y);
    let mut chart = Chart::new("loss", "Loss", HEIGHT, x, Axis::round("loss", all.chain([0.0])));
    let ends = (epochs.first().map_or(f64::NAN, |p| p.y), epochs.last().map_or(f64::NAN, |p| p.y));
    chart.description = format!("Mean loss {:.4} in the first epoch, {:.4} in the last.", ends.0, ends.1);
    let step_name = if !curve.has_every_step() { "mean of some steps" } else { "step" };
    chart.series = vec![
        Series { name: step_name.to_owned(), marks: Marks::Line, tone: Tone::Quiet, points: steps },
        Series {
            name: "mean of the epoch".to_owned(),
            marks: Marks::Line,
            tone: Tone::Adapted,
            points: epochs.clone(),
        },
    ];
    if epochs.len() <= 50 {
        chart.series.push(Series {
            name: String::new(),
            marks: Marks::Discs,
            tone: Tone::Adapted,
            points: epochs,
        });
    }
    chart
}

/// nDCG@10 on validation after each epoch; none where there is no validation.
pub(crate) fn validation(epochs: &[Epoch], base: f64, kept_epoch: u32) -> Option<Chart> {
    let point = |(number, epoch): (u32, &Epoch)| {
        let ndcg = epoch.validation_ndcg?;
        Some(Point { label: format!("epoch {number}: {ndcg:.4}"), ..Point::new(f64::from(number), ndcg) })
    };
    let points: Vec<Point> = (1..).zip(epochs).filter_map(point).collect();
    let last = points.last()?.x;
    let x = within_domain(Axis { domain: [0.0, last], ..Axis::round("epoch", [0.0, last].into_iter()) });
    let y = Axis::round("nDCG@10", points.iter().map(|point| point.y).chain([base]));
    let mut chart = Chart::new("validation", "nDCG@10 on validation", HEIGHT, x, y);
    let kept = match kept_epoch {
        0 => Point { label: format!("the base is kept: {base:.4}"), ..Point::new(0.0, base) },
        kept => points.iter().find(|p| p.x == f64::from(kept)).cloned().unwrap_or_default(),
    };
    chart.description = match kept_epoch {
        0 => format!(
            "The base has {base:.4}; no epoch was better beyond its standard error, so the base is kept."
        ),
        epoch => format!("The base has {base:.4}; epoch {epoch} has {:.4} and is kept.", kept.y),
    };
    let dots = if points.len() <= 50 { points.clone() } else { Vec::new() };
    chart.series = vec![
        base_line(&chart, base),
        Series { name: "after each epoch".to_owned(), marks: Marks::Line, tone: Tone::Adapted, points },
        Series { name: String::new(), marks: Marks::Discs, tone: Tone::Adapted, points: dots },
        Series { name: "kept".to_owned(), marks: Marks::Rings, tone: Tone::Gain, points: vec![kept] },
    ];
    Some(chart)
}

/// Settings that were tried.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct TriedSettings {
    pub(crate) name: String,
    /// The number of epochs after which they were best,
    pub(crate) epochs: u32,
    /// and what they had then.
    #[serde(rename = "ndcg@10")]
    pub(crate) ndcg: f64,
    /// Whether they are among what was chosen, after as many epochs or others.
    pub(crate) chosen: bool,
}

impl TriedSettings {
    pub(super) fn figure(&self) -> String {
        number(self.ndcg)
    }
}

/// All settings that the recipe `auto` tried, the best first.
pub(crate) fn tried_settings(choice: &Choice, trials: &[Trial]) -> Vec<TriedSettings> {
    let mut seen = vec![false; trials.len()];
    let best = choice.tried.iter().filter(|tried| !core::mem::replace(&mut seen[tried.member.trial], true));
    best.map(|tried| TriedSettings {
        name: trials[tried.member.trial].to_string(),
        epochs: tried.member.epochs,
        ndcg: tried.ndcg,
        chosen: choice.members.iter().any(|member| member.trial == tried.member.trial),
    })
    .collect()
}

/// What the recipe `auto` tried, after how many epochs, and what it chose of it.
pub(crate) fn tried(choice: &Choice, trials: &[Trial]) -> Option<Chart> {
    let most = choice.tried.iter().map(|tried| tried.member.epochs).max()?;
    // The starting point of some trials is no epoch: it stands left of the first.
    let place = |epochs: u32| if epochs == 0 { 0.5 } else { f64::from(epochs) };
    let ndcg = |member| choice.tried.iter().find(|tried| tried.member == member).map(|tried| tried.ndcg);
    let least = choice.tried.iter().map(|tried| place(tried.member.epochs)).fold(1.0, f64::min);
    let mut ticks: Vec<Tick> =
        if least < 1.0 { vec![Tick { value: 0.5, label: "0".to_owned() }] } else { Vec::new() };
    let powers: Vec<u32> =
        (0..31).map(|power| 1 << power).take_while(|&epochs| epochs <= most.max(2)).collect();
    ticks.extend(ticks_at(&powers));
    let x = Axis::new("epochs", Scale::Log, [least * 0.9, f64::from(most.max(2)) * 1.1], ticks);
    let y = Axis::round("nDCG@10", choice.tried.iter().map(|tried| tried.ndcg).chain([choice.base]));
    let mut chart = Chart::new("tried", "What was tried", 300.0, x, y);
    chart.series.push(base_line(&chart, choice.base));
    let mut named = [false; 2];
    let mut of_trials = Vec::new();
    for (number, trial) in trials.iter().enumerate() {
        let name = trial.to_string();
        let of_trial = choice.tried.iter().filter(|tried| tried.member.trial == number);
        let mut points: Vec<Point> = of_trial
            .map(|tried| Point {
                label: format!("{name}, {} epochs: {:.4}", tried.member.epochs, tried.ndcg),
                ..Point::new(place(tried.member.epochs), tried.ndcg)
            })
            .collect();
        points.sort_by(|a, b| a.x.total_cmp(&b.x));
        of_trials.push((choice.members.iter().any(|member| member.trial == number), points));
    }
    // What was chosen is drawn last, over the others.
    of_trials.sort_by_key(|&(chosen, _)| chosen);
    for (chosen, points) in of_trials.into_iter().filter(|(_, points)| !points.is_empty()) {
        let (legend, tone) =
            if chosen { ("settings chosen from", Tone::Adapted) } else { ("other settings", Tone::Quiet) };
        let first = !core::mem::replace(&mut named[usize::from(chosen)], true);
        let name = if first { legend.to_owned() } else { String::new() };
        chart.series.push(Series { name, marks: Marks::Line, tone, points: points.clone() });
        chart.series.push(Series { name: String::new(), marks: Marks::Discs, tone, points });
    }
    let chosen =
        choice.members.iter().filter_map(|&member| Some(Point::new(place(member.epochs), ndcg(member)?)));
    chart.series.push(Series {
        name: "chosen".to_owned(),
        marks: Marks::Rings,
        tone: Tone::Gain,
        points: chosen.collect(),
    });
    chart.description = format!(
        "nDCG@10 on the queries that chose, after some epochs of each of {}. The base has {:.4}, what was chosen {:.4}.",
        if trials.len() == 1 { "one setting".to_owned() } else { format!("{} settings", trials.len()) },
        choice.base,
        if choice.members.is_empty() { choice.base } else { choice.best }
    );
    Some(chart)
}

/// A broken line at the base's value, over all of a chart.
fn base_line(chart: &Chart, base: f64) -> Series {
    let points = chart.x.domain.map(|x| Point { label: format!("base: {base:.4}"), ..Point::new(x, base) });
    Series { name: "base".to_owned(), marks: Marks::Guide, tone: Tone::Base, points: points.to_vec() }
}

/// The axis without the ticks beyond its ends.
fn within_domain(mut axis: Axis) -> Axis {
    let [from, to] = axis.domain;
    axis.ticks.retain(|tick| (from..=to).contains(&tick.value));
    // A tick between two epochs is none.
    axis.ticks.retain(|tick| tick.value == tick.value.floor());
    axis.ticks.iter_mut().for_each(|tick| tick.label = format!("{:.0}", tick.value));
    axis
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auto::choice::{Member, Tried};
    use crate::auto::trials::Trial;
    use crate::fit::Settings;

    #[test]
    fn the_kept_epoch_is_ringed_also_where_it_is_the_base() {
        let epochs = [0.5, 0.7, 0.6].map(|ndcg| Epoch { loss: 1.0, validation_ndcg: Some(ndcg) });
        for (kept, x, y) in [(2, 2.0, 0.7), (0, 0.0, 0.55)] {
            let chart = validation(&epochs, 0.55, kept).expect("a chart");
            let ring = &chart.series[3].points[0];
            assert_eq!((ring.x, ring.y), (x, y));
        }
        assert!(validation(&[Epoch { loss: 1.0, validation_ndcg: None }], 0.5, 1).is_none());
    }

    #[test]
    fn everything_that_was_tried_is_drawn_once_and_what_was_chosen_last() {
        let trials = vec![
            Trial { settings: Settings::single(), stops: vec![1, 2] },
            Trial { settings: Settings::single(), stops: vec![0] },
        ];
        let member = |trial, epochs| Member { trial, epochs };
        let tried_values = [(member(0, 2), 0.8), (member(1, 0), 0.7), (member(0, 1), 0.6)];
        let choice = Choice {
            members: vec![member(0, 2)],
            part_of_the_way: 1.0,
            tried: tried_values.map(|(member, ndcg)| Tried { member, ndcg }).to_vec(),
            base: 0.65,
            best: 0.8,
            standard_error: 0.01,
        };
        let chart = tried(&choice, &trials).expect("a chart");
        let drawn: Vec<(Marks, Vec<(f64, f64)>)> = chart
            .series
            .iter()
            .map(|series| (series.marks, series.points.iter().map(|point| (point.x, point.y)).collect()))
            .collect();
        assert_eq!(drawn[2], (Marks::Discs, vec![(0.5, 0.7)]));
        assert_eq!(drawn[4], (Marks::Discs, vec![(1.0, 0.6), (2.0, 0.8)]));
        assert_eq!(drawn[5], (Marks::Rings, vec![(2.0, 0.8)]));
        assert_eq!(drawn.len(), 6);
        let rows: Vec<(u32, f64, bool)> =
            tried_settings(&choice, &trials).iter().map(|row| (row.epochs, row.ndcg, row.chosen)).collect();
        assert_eq!(rows, [(2, 0.8, true), (0, 0.7, false)]);
    }
}
