//! The three answers at the top of a page: did it help, how surely, where did it hurt.

use serde::Serialize;

use super::chart::Tone;
use super::queries::{QueryChange, ShownQuery};
use super::results::{Group, Split};
use crate::auto::verdict::{Finding, Verdict};

/// From this p-value on a difference counts as chance, where a single comparison is looked at.
const SIGNIFICANT: f64 = 0.05;

/// With fewer queries than that the reader is warned.
const FEW: usize = 50;

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// The base, and nothing beside it.
    BaseAlone,
    /// An adapter.
    Adapter,
    /// What a run made, of which nothing was kept.
    Refused,
}

/// How the queries that were looked at are related to what was measured on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Evidence {
    /// They took no part in anything, as far as this program knows.
    Unseen,
    /// They were held out of the run that is repeated for them, choice and all.
    HeldOut,
    /// They chose the epoch.
    Chose,
    /// They were trained on.
    TrainedOn,
}

/// An answer: a word or two, and what is behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Answer {
    pub(super) question: &'static str,
    pub(super) short: String,
    pub(super) words: Vec<String>,
    #[serde(skip)]
    pub(super) tone: Tone,
}

/// What the answers are made from.
pub(super) struct Findings<'a> {
    pub(super) subject: Subject,
    pub(super) evidence: Evidence,
    /// The split that is looked at.
    pub(super) split: &'a Split,
    /// What the recipe `auto` found on queries held out.
    pub(super) verdict: Option<&'a Verdict>,
    pub(super) changes: &'a [QueryChange],
    /// The query that lost most, or that finds least.
    pub(super) worst: Option<&'a ShownQuery>,
}

pub(super) fn answers(findings: &Findings<'_>) -> [Answer; 3] {
    match findings.subject {
        Subject::BaseAlone => of_base(findings),
        _ => [helped(findings), surely(findings), hurt(findings)],
    }
}

fn of_base(findings: &Findings<'_>) -> [Answer; 3] {
    let Findings { split, changes, worst, .. } = findings;
    let all = &split.all;
    let missed = changes.iter().filter(|change| change.ndcg[0] == 0.0).count();
    let mut where_words =
        vec![format!("{} have no relevant document among their first ten.", of(missed, all.queries))];
    if let Some(worst) = worst {
        where_words.push(format!(
            "Worst: {}, first relevant document: {}.",
            quoted(worst),
            rank(worst.rank[0])
        ));
    }
    [
        Answer {
            question: "How good is the base?",
            short: number(all.ndcg[0]),
            words: vec![
                format!("nDCG@10 on {}.", counted(all.queries)),
                "No adapter was given: there is nothing to compare with.".to_owned(),
            ],
            tone: Tone::Base,
        },
        Answer {
            question: "How surely?",
            short: format!("{} to {}", number(all.interval.0), number(all.interval.1)),
            words: vec!["95 % interval of its nDCG@10, by a bootstrap over queries.".to_owned()],
            tone: Tone::Base,
        },
        Answer {
            question: "Where does it fail?",
            short: format!("{} %", tenths(missed, all.queries)),
            words: where_words,
            tone: Tone::Base,
        },
    ]
}

/// Whether a gain is beyond chance, and to which side.
fn side(group: &Group) -> Tone {
    match group.interval {
        (low, _) if low > 0.0 && group.p < SIGNIFICANT => Tone::Gain,
        (_, high) if high < 0.0 && group.p < SIGNIFICANT => Tone::Loss,
        _ => Tone::Same,
    }
}

fn helped(findings: &Findings<'_>) -> Answer {
    let Findings { subject, evidence, split, verdict, .. } = findings;
    let all = &split.all;
    let figures = format!(
        "nDCG@10 {} → {} ({}) on {} {}.",
        number(all.ndcg[0]),
        number(all.ndcg[1]),
        signed(all.gain()),
        counted(all.queries),
        match evidence {
            Evidence::Unseen => "that took no part in training",
            Evidence::HeldOut => "held out of training and choice",
            Evidence::Chose => "that chose the epoch",
            Evidence::TrainedOn => "that were trained on",
        }
    );
    let held_out = verdict.filter(|_| *evidence != Evidence::HeldOut).filter(|verdict| verdict.queries > 0);
    let side = side(all);
    let shown_held_out = held_out.is_some_and(|verdict| verdict.finding == Finding::Better);
    let (short, tone) = match (subject, verdict.map(|verdict| verdict.finding), side) {
        (Subject::Refused, Some(Finding::FewDocuments | Finding::MovesOthers), _) => ("Refused", Tone::Loss),
        (Subject::Refused, Some(Finding::Worse), _) => ("No, it hurt", Tone::Loss),
        (Subject::Refused, ..) => ("Not shown", Tone::Same),
        (_, _, Tone::Gain) => ("Yes", Tone::Gain),
        (_, _, Tone::Loss) => ("No, it hurt", Tone::Loss),
        _ if shown_held_out => ("Yes, on held-out queries", Tone::Gain),
        _ => ("Not shown", Tone::Same),
    };
    let mut words = vec![figures];
    if *subject == Subject::Refused {
        words.push("The base is kept: the adapter file holds the identity.".to_owned());
    }
    if let Some(verdict) = held_out {
        words.push(format!(
            "On {} held out of training and choice: {}.",
            counted(verdict.queries),
            signed(verdict.gain)
        ));
    }
    Answer { question: "Did it help?", short: short.to_owned(), words, tone }
}

fn surely(findings: &Findings<'_>) -> Answer {
    let Findings { evidence, split, verdict, subject, .. } = findings;
    let all = &split.all;
    let (low, high) = all.interval;
    let side = side(all);
    let short = match side {
        Tone::Same => "Within chance",
        _ => "Beyond chance",
    };
    let mut words = vec![format!(
        "95 % interval of the gain {} to {}; p = {} by a paired randomisation test.",
        signed(low),
        signed(high),
        p_value(all.p)
    )];
    match evidence {
        Evidence::TrainedOn => {
            words.push("Measured on training queries: it says nothing about new ones.".to_owned());
        }
        Evidence::Chose => {
            words.push("These queries chose the epoch, which flatters it a little.".to_owned())
        }
        _ if all.queries < FEW => {
            words.push(format!("Only {}: the interval is rough.", counted(all.queries)))
        }
        _ => {}
    }
    if let Some(verdict) = verdict {
        let words_of = match (verdict.finding, subject) {
            (Finding::FewDocuments, _) => Some("Most queries were sent to the same few documents."),
            (Finding::MovesOthers, _) => Some("It moved queries it has nothing to do with."),
            (Finding::NoEvidence, Subject::Adapter) => Some("Kept all the same, as --accept-uncertain asks."),
            _ => None,
        };
        words.extend(words_of.map(ToOwned::to_owned));
        if *evidence != Evidence::HeldOut
            && let Some((low, high)) = verdict.interval
        {
            words.push(format!(
                "On the held-out queries {} to {}, p = {}.",
                signed(low),
                signed(high),
                p_value(verdict.p)
            ));
        }
    }
    Answer { question: "How surely?", short: short.to_owned(), words, tone: side }
}

fn hurt(findings: &Findings<'_>) -> Answer {
    let Findings { subject, split, worst, .. } = findings;
    let all = &split.all;
    let unchanged = all.unchanged();
    let short = match all.lost {
        0 => "Nowhere".to_owned(),
        lost => of(lost, all.queries),
    };
    let mut words = vec![match all.lost {
        0 => format!("No query fell in nDCG@10; {} rose, {unchanged} did not change.", all.won),
        _ => format!("fell in nDCG@10; {} rose, {unchanged} did not change.", all.won),
    }];
    if let Some(worst) = worst.filter(|_| all.lost > 0) {
        words.push(format!(
            "Most: {}, from {} to {}.",
            quoted(worst),
            rank(worst.rank[0]),
            rank(worst.rank[1])
        ));
    }
    let least = split.groups.iter().min_by(|a, b| a.gain().total_cmp(&b.gain()));
    if let Some(group) = least.filter(|group| group.gain() < all.gain()) {
        words.push(format!("Least gain: {}, {}.", group.name, signed(group.gain())));
    }
    let question = match subject {
        Subject::Refused => "Where would it have hurt?",
        _ => "Where did it hurt?",
    };
    Answer { question, short, words, tone: if all.lost == 0 { Tone::Same } else { Tone::Loss } }
}

/// A figure with four decimals.
pub(super) fn number(value: f64) -> String {
    format!("{value:.4}").replace('-', "\u{2212}")
}

/// The same with its sign.
pub(super) fn signed(value: f64) -> String {
    // What would be printed as −0.0000 is 0.
    let value = if value.abs() < 0.000_05 { 0.0 } else { value };
    format!("{value:+.4}").replace('-', "\u{2212}")
}

pub(super) fn p_value(p: f64) -> String {
    if p < 0.000_05 { "<0.0001".to_owned() } else { format!("{p:.4}") }
}

pub(super) fn rank(rank: Option<usize>) -> String {
    rank.map_or_else(|| "beyond rank 100".to_owned(), |rank| format!("rank {rank}"))
}

fn counted(queries: usize) -> String {
    if queries == 1 { "1 query".to_owned() } else { format!("{queries} queries") }
}

fn of(some: usize, all: usize) -> String {
    format!("{some} of {}", counted(all))
}

/// A part in per cent with one decimal.
fn tenths(part: usize, all: usize) -> String {
    format!("{:.1}", 100.0 * part as f64 / all as f64)
}

/// The beginning of a query's text, or its id where it has none.
fn quoted(query: &ShownQuery) -> String {
    const MOST: usize = 70;
    let text = if query.text.is_empty() { &query.id } else { &query.text };
    // Between isolates, so that a text of the other direction turns nothing around it.
    match text.char_indices().nth(MOST) {
        Some((end, _)) => {
            let cut = text[..end].rfind(' ').filter(|&space| space > end / 2).unwrap_or(end);
            format!("“\u{2068}{}…\u{2069}”", text[..cut].trim_end())
        }
        None => format!("“\u{2068}{text}\u{2069}”"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(name: &str, ndcg: [f64; 2], interval: (f64, f64), p: f64, counts: [usize; 3]) -> Group {
        let [queries, won, lost] = counts;
        Group { name: name.to_owned(), queries, ndcg, interval, p, won, lost }
    }

    fn verdict(finding: Finding) -> Verdict {
        Verdict {
            finding,
            queries: 300,
            gain: 0.05,
            interval: Some((0.02, 0.08)),
            p: 0.001,
            ..Verdict::new(None, None, None)
        }
    }

    fn shorts(subject: Subject, evidence: Evidence, all: Group, verdict: Option<&Verdict>) -> [String; 3] {
        let split = Split { name: "test".to_owned(), all, groups: Vec::new(), metrics: Vec::new() };
        let findings = Findings { subject, evidence, split: &split, verdict, changes: &[], worst: None };
        answers(&findings).map(|answer| answer.short)
    }

    #[test]
    fn a_gain_beyond_chance_is_a_yes_and_nothing_else_is() {
        let clear = || group("all", [0.6, 0.8], (0.1, 0.3), 0.0001, [144, 64, 8]);
        let unclear = || group("all", [0.6, 0.62], (-0.01, 0.05), 0.2, [45, 5, 3]);
        let worse = || group("all", [0.6, 0.5], (-0.2, -0.05), 0.001, [144, 3, 60]);
        let short = |all, verdict: Option<&Verdict>| {
            shorts(Subject::Adapter, Evidence::Unseen, all, verdict)[0].clone()
        };
        assert_eq!(short(clear(), None), "Yes");
        assert_eq!(short(unclear(), None), "Not shown");
        assert_eq!(short(worse(), None), "No, it hurt");
        // An interval above 0 whose p-value says otherwise, as of three queries.
        assert_eq!(short(group("all", [0.0, 1.0], (1.0, 1.0), 0.25, [3, 3, 0]), None), "Not shown");
        let better = verdict(Finding::Better);
        assert_eq!(short(unclear(), Some(&better)), "Yes, on held-out queries");
        assert_eq!(short(worse(), Some(&better)), "No, it hurt");
        let refused = |finding| {
            shorts(Subject::Refused, Evidence::HeldOut, clear(), Some(&verdict(finding)))[0].clone()
        };
        assert_eq!(refused(Finding::NoEvidence), "Not shown");
        assert_eq!(refused(Finding::MovesOthers), "Refused");
        assert_eq!(refused(Finding::Worse), "No, it hurt");
    }

    #[test]
    fn the_answers_have_their_figures() {
        let groups = vec![
            group("answers seen in training", [0.6, 0.9], (0.2, 0.4), 0.001, [100, 50, 2]),
            group("answers unseen", [0.6, 0.65], (0.0, 0.1), 0.03, [44, 14, 6]),
        ];
        let all = group("all", [0.6326, 0.8041], (0.1285, 0.2154), 0.0001, [144, 64, 8]);
        let split = Split { name: "test".to_owned(), all, groups, metrics: Vec::new() };
        let worst = ShownQuery {
            id: "q7".to_owned(),
            text: "where is it?".to_owned(),
            ndcg: [1.0, 0.0],
            rank: [Some(1), None],
            documents: [Vec::new(), Vec::new()],
            compared: true,
        };
        let findings = Findings {
            subject: Subject::Adapter,
            evidence: Evidence::Unseen,
            split: &split,
            verdict: None,
            changes: &[],
            worst: Some(&worst),
        };
        let [helped, surely, hurt] = answers(&findings);
        assert_eq!(
            helped.words,
            ["nDCG@10 0.6326 → 0.8041 (+0.1715) on 144 queries that took no part in training."]
        );
        assert_eq!(
            surely.words,
            ["95 % interval of the gain +0.1285 to +0.2154; p = 0.0001 by a paired randomisation test."]
        );
        assert_eq!(hurt.short, "8 of 144 queries");
        assert_eq!(
            hurt.words,
            [
                "fell in nDCG@10; 64 rose, 72 did not change.",
                "Most: “\u{2068}where is it?\u{2069}”, from rank 1 to beyond rank 100.",
                "Least gain: answers unseen, +0.0500.",
            ]
        );
    }

    #[test]
    fn a_base_alone_is_compared_with_nothing() {
        let all = group("all", [0.6, 0.6], (0.5, 0.7), 1.0, [3, 0, 0]);
        let shorts = shorts(Subject::BaseAlone, Evidence::Unseen, all, None);
        assert_eq!(shorts, ["0.6000", "0.5000 to 0.7000", "0.0 %"]);
    }

    #[test]
    fn figures_have_a_minus_that_lines_up_and_no_negative_zero() {
        assert_eq!(
            (signed(-0.5), signed(-0.000_01), signed(0.25)),
            ("\u{2212}0.5000".into(), "+0.0000".into(), "+0.2500".into())
        );
        assert_eq!((p_value(1.0 / 10_001.0), p_value(0.0312)), ("0.0001".into(), "0.0312".into()));
    }
}
