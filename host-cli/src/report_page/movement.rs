//! Queries before and after among the documents, seen in the plane in which they differ most.

use std::collections::BTreeSet;

use super::chart::{Axis, Chart, Marks, Point, Scale, Series, Tone};
use super::excerpts::shown_id;
use super::plane::{Plane, principal_plane, unit};
use super::queries::{LookedAt, Part, QueryChange};
use crate::failure::Failure;

/// The most queries that are drawn, and the most documents that answer none of them.
const MOST_QUERIES: usize = 120;
const MOST_OTHERS: usize = 120;

/// What is drawn, and of how much.
#[derive(Clone, Debug)]
pub(super) struct Movement {
    pub(super) chart: Chart,
    pub(super) queries: usize,
    pub(super) documents: usize,
}

/// Every so-and-so-many-th query is drawn, with its first relevant document, and every so-and-so-many-th other document.
///
/// # Errors
///
/// [`Failure::Numerical`] when an adapter refuses a vector.
pub(super) fn movement(looked_at: &LookedAt<'_>, changes: &[QueryChange]) -> Result<Movement, Failure> {
    let chosen: Vec<&QueryChange> = spaced(changes.len(), MOST_QUERIES).map(|at| &changes[at]).collect();
    let with_adapter = looked_at.comparison.adapted.is_some();
    let mut before = Vec::with_capacity(chosen.len());
    let mut after = Vec::with_capacity(chosen.len());
    let mut answers = BTreeSet::new();
    for change in &chosen {
        let Part { task, adapter, .. } = &looked_at.parts[change.part];
        let vector = task.query_vector(change.query);
        before.push(unit(vector));
        if let Some(adapter) = adapter {
            let mut adapted = vec![0.0; adapter.out_dim()];
            adapter.apply(vector, &mut adapted)?;
            after.push(unit(&adapted));
        }
        answers.extend(task.query(change.query).positives.documents().first());
    }
    // All parts have one corpus.
    let Some(Part { task, .. }) = looked_at.parts.first() else {
        return Err(Failure::Usage("there is no query to draw".to_owned()));
    };
    let corpus = task.corpus();
    let others = spaced(corpus.len(), MOST_OTHERS).filter_map(|at| u32::try_from(at).ok());
    let others: Vec<u32> = others.filter(|document| !answers.contains(document)).collect();
    let answers: Vec<u32> = answers.into_iter().collect();

    let documents = answers.iter().chain(&others).map(|&document| unit(corpus.vector(document)));
    let (queries, answered) = (before.len(), answers.len());
    let moved = after.len() == queries;
    let vectors: Vec<Vec<f64>> = before.into_iter().chain(after).chain(documents).collect();
    let Plane { places, shares } = principal_plane(vectors);
    let (before, rest) = places.split_at(queries);
    let (after, documents) = if moved { rest.split_at(queries) } else { (before, rest) };

    let label = |axis: usize, name: &str| format!("{name} ({:.1} % of the variance)", 100.0 * shares[axis]);
    let chart_axes = square_axes(&places, &label(0, "first component"), &label(1, "second component"));
    let mut chart = Chart::new("movement", "Queries among documents", HEIGHT, chart_axes.0, chart_axes.1);
    // There are no numbers beside it.
    chart.x.range[0] -= ROOM_OF_NUMBERS;
    let square = |(place, &document): (&[f64; 2], &u32)| Point {
        label: format!("document {}", shown_id(corpus.id(document))),
        ..Point::new(place[0], place[1])
    };
    let (answer_places, other_places) = documents.split_at(answered);
    for (name, tone, points) in [
        ("other documents", Tone::Quiet, other_places.iter().zip(&others).map(square).collect::<Vec<_>>()),
        ("documents that answer", Tone::Document, answer_places.iter().zip(&answers).map(square).collect()),
    ] {
        chart.series.push(Series { name: name.to_owned(), marks: Marks::Squares, tone, points });
    }
    let kinds: &[Kind] = if with_adapter {
        &[
            ("unchanged", Tone::Same, |gain| gain == 0.0),
            ("queries that gained", Tone::Gain, |gain| gain > 0.0),
            ("queries that lost", Tone::Loss, |gain| gain < 0.0),
        ]
    } else {
        &[("queries", Tone::Adapted, |_| true)]
    };
    for &(name, tone, belongs) in kinds {
        let mut points = Vec::new();
        for ((change, from), to) in
            chosen.iter().zip(before).zip(after).filter(|((c, _), _)| belongs(c.gain()))
        {
            let id = shown_id(looked_at.parts[change.part].task.query(change.query).id);
            points.push(Point {
                to: with_adapter.then_some(*to),
                label: format!("query {id}"),
                ..Point::new(from[0], from[1])
            });
        }
        let marks = if with_adapter { Marks::Moves } else { Marks::Discs };
        chart.series.push(Series { name: name.to_owned(), marks, tone, points });
    }
    let documents = answers.len() + others.len();
    chart.description = format!(
        "{queries} queries, {answered} documents that answer them and {} others, by the two directions in which their \
         vectors vary most. The plane shows {:.1} % of the variance: what is near here need not be near.",
        others.len(),
        100.0 * (shares[0] + shares[1])
    );
    Ok(Movement { chart, queries, documents })
}

const HEIGHT: f64 = 372.0;

/// Width that other charts leave to the numbers at their left.
const ROOM_OF_NUMBERS: f64 = 34.0;

/// Queries of a kind: its name and tone, and by which gains they belong to it.
type Kind = (&'static str, Tone, fn(f64) -> bool);

/// Numbers below `count`, evenly spaced, at most `most` of them.
fn spaced(count: usize, most: usize) -> impl Iterator<Item = usize> {
    let taken = count.min(most);
    (0..taken).map(move |at| at * count / taken)
}

/// Two axes on which a unit is as long as on the other, with some room at the ends.
fn square_axes(places: &[[f64; 2]], first: &str, second: &str) -> (Axis, Axis) {
    // The plane is 332 by 314.
    const PROPORTION: f64 = 314.0 / 332.0;
    let ends = |axis: usize| {
        let values = places.iter().map(|place| place[axis]);
        values
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
    };
    let ((left, right), (bottom, top)) = (ends(0), ends(1));
    let width = (right - left).max((top - bottom) / PROPORTION).max(1e-6) * 1.06;
    let (middle_x, middle_y) = (0.5 * (left + right), 0.5 * (bottom + top));
    let axis = |label: &str, middle: f64, length: f64| {
        Axis::new(label, Scale::Linear, [middle - 0.5 * length, middle + 0.5 * length], Vec::new())
    };
    (axis(first, middle_x, width), axis(second, middle_y, width * PROPORTION))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_drawn_is_spread_over_all() {
        assert_eq!(spaced(5, 120).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        assert_eq!(spaced(10, 4).collect::<Vec<_>>(), [0, 2, 5, 7]);
        assert_eq!(spaced(0, 4).count(), 0);
    }

    #[test]
    fn a_unit_is_as_long_in_both_directions() {
        for places in [vec![[0.0, 0.0], [4.0, 1.0]], vec![[0.0, -9.0], [1.0, 5.0]], vec![[2.0, 2.0]]] {
            let (mut x, mut y) = square_axes(&places, "", "");
            let chart = Chart::new("x", "", HEIGHT, x.clone(), y.clone());
            (x.range, y.range) = (chart.x.range, chart.y.range);
            x.range[0] -= ROOM_OF_NUMBERS;
            let across = (x.place(1.0) - x.place(0.0)).abs();
            let up = (y.place(1.0) - y.place(0.0)).abs();
            assert!((across / up - 1.0).abs() < 1e-9, "{across} {up}");
            for [px, py] in places {
                assert!((x.range[0]..=x.range[1]).contains(&x.place(px)), "{px}");
                assert!((y.range[1]..=y.range[0]).contains(&y.place(py)), "{py}");
            }
        }
    }
}
