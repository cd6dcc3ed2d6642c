//! Rankings: for each query the documents that a system found, with its scores.

use core::cmp::Ordering;
use std::collections::HashMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use query_adapter::Found;

use crate::contents::Contents;
use crate::failure::Failure;
use crate::files::write_atomically;
use crate::ids::Ids;
use crate::json::quoted;
use crate::lists::Lists;
use crate::metrics::DEPTH;
use crate::ranking::TieOrder;
use crate::retrieval_task::RetrievalTask;

use super::{lines, refused};

/// What a file looks like.
const EXPECTED: &str = "lines of six columns: query, Q0, document, rank, score, tag";

/// A run file: for each query the best documents, at most one more than [`DEPTH`], best first.
#[derive(Clone, Debug)]
pub struct Run {
    /// The file.
    pub file: PathBuf,
    /// What its first line calls the system.
    pub tag: String,
    /// The queries, in the order of the file.
    pub queries: Ids,
    documents: Ids,
    lists: Lists<Retrieved>,
}

/// A document that was found.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Retrieved {
    document: u32,
    score: f64,
}

/// A line, taken apart.
struct Row {
    document: u32,
    score: f64,
    rank: i64,
    line: usize,
}

impl Run {
    /// Reads a run file and orders each query's documents by descending score, equal scores by `ties`.
    ///
    /// # Errors
    ///
    /// [`Failure::Input`] when the file cannot be read, is empty, or a line has another number of columns, a rank that is no whole
    /// number, a score that is no finite number, a document which the query has already, or a rank that disagrees with the scores:
    /// trec_eval goes by scores alone, so one of them is wrong.
    pub fn load(file: &Path, ties: TieOrder) -> Result<Self, Failure> {
        Self::parse(file, &Contents::of(file)?, ties)
    }

    fn parse(file: &Path, bytes: &[u8], ties: TieOrder) -> Result<Self, Failure> {
        let mut run = Self {
            file: file.to_owned(),
            tag: String::new(),
            queries: Ids::default(),
            documents: Ids::default(),
            lists: Lists::default(),
        };
        let mut rows: Vec<Vec<Row>> = Vec::new();
        let mut known: HashMap<(u32, u32), usize> = HashMap::new();
        for (line, text) in lines(file, bytes, EXPECTED)? {
            let refused = |problem: &str| refused(file, line, problem);
            let columns: Vec<&str> = text.split_whitespace().collect();
            let [query, _, document, rank, score, tag] = columns[..] else {
                return Err(refused(&format!("found {} columns, expected {EXPECTED}", columns.len())));
            };
            let rank = rank
                .parse::<i64>()
                .map_err(|_| refused(&format!("the rank is {}, expected a whole number", quoted(rank))))?;
            let score = match score.parse::<f64>() {
                Ok(score) if score.is_finite() => score,
                _ => {
                    return Err(refused(&format!(
                        "the score is {}, expected a finite number",
                        quoted(score)
                    )));
                }
            };
            if run.queries.is_empty() {
                tag.clone_into(&mut run.tag);
            }
            let too_many = |error| refused(&format!("{error}"));
            let query_at = run.queries.intern(query).map_err(too_many)?;
            let document_at = run.documents.intern(document).map_err(too_many)?;
            if let Some(first) = known.insert((query_at, document_at), line) {
                return Err(refused(&format!(
                    "the query {} has the document {} in line {first} already; a ranking has each once",
                    quoted(query),
                    quoted(document)
                )));
            }
            if rows.len() < run.queries.len() {
                rows.push(Vec::new());
            }
            rows[query_at as usize].push(Row { document: document_at, score, rank, line });
        }
        for mut rows in rows {
            require_ranks_by_score(file, &mut rows)?;
            let mut found: Vec<Retrieved> = rows
                .into_iter()
                .map(|Row { document, score, .. }| Retrieved { document, score: ties.rounded(score) })
                .collect();
            found.sort_unstable_by(|a, b| run.better(ties, *a, *b));
            found.truncate(DEPTH + 1);
            run.lists.push_list(found);
        }
        Ok(run)
    }

    /// The documents of a query, best first, each with its score; none where it has no such query.
    pub fn documents_of(&self, query: &str) -> Option<impl Iterator<Item = (&str, f64)> + Clone> {
        let list = self.lists.get(self.queries.index_of(query)? as usize);
        Some(list.iter().map(|found| (&self.documents[found.document], found.score)))
    }

    fn better(&self, ties: TieOrder, a: Retrieved, b: Retrieved) -> Ordering {
        let by_id = self.documents[a.document].cmp(&self.documents[b.document]);
        let by_id = match ties {
            TieOrder::Ascending => by_id,
            TieOrder::Trec => by_id.reverse(),
        };
        b.score.partial_cmp(&a.score).unwrap_or(Ordering::Equal).then(by_id)
    }
}

/// Refuses a document with a higher score than one of a better rank. Equal ranks, as files have them that leave the order to the
/// scores, say nothing.
fn require_ranks_by_score(file: &Path, rows: &mut [Row]) -> Result<(), Failure> {
    rows.sort_by_key(|row| row.rank);
    let mut least: Option<&Row> = None;
    for rows in rows.chunk_by(|a, b| a.rank == b.rank) {
        for row in rows {
            if let Some(better) = least.filter(|better| row.score > better.score) {
                return Err(refused(
                    file,
                    row.line,
                    &format!(
                        "rank {} has the score {}, rank {} in line {} has the lower score {}; ranks and scores must agree",
                        row.rank, row.score, better.rank, better.line, better.score
                    ),
                ));
            }
        }
        let here = rows.iter().min_by(|a, b| a.score.total_cmp(&b.score));
        least = match (least, here) {
            (Some(least), Some(here)) if here.score > least.score => Some(least),
            (_, here) => here,
        };
    }
    Ok(())
}

/// Refuses a task whose ids cannot stand in a run file: columns are told apart by white space. Call it before hours of work.
///
/// # Errors
///
/// [`Failure::Input`] for an id that is empty or has white space in it.
pub fn require_ids(task: &RetrievalTask) -> Result<(), Failure> {
    let corpus = task.corpus();
    // Documents are counted in 32 bits.
    let documents = (0..).take(corpus.len()).map(|document| ("document", corpus.id(document)));
    let ids = task.queries().iter().map(|query| ("query", query.id)).chain(documents);
    for (kind, id) in ids {
        if id.is_empty() || id.contains(char::is_whitespace) {
            let problem = format!(
                "the {kind} id {} is empty or has white space in it, which the columns of a TREC run file cannot hold; give it \
                 another id, or leave --predictions out",
                quoted(id)
            );
            return Err(Failure::input(task.file(), problem));
        }
    }
    Ok(())
}

/// Writes the rankings of a task's queries as a run file, best first, with ranks from 1.
///
/// trec_eval orders documents by their scores alone and equal ones by descending id. So that every reader gets the order that is
/// meant, a document whose score is not below that of the one before it is written with the next smaller 32-bit number.
///
/// # Errors
///
/// As [`require_ids`] and [`write_atomically`].
pub fn save(
    file: &Path,
    force: bool,
    tag: &str,
    task: &RetrievalTask,
    rankings: &[Vec<Found>],
) -> Result<(), Failure> {
    require_ids(task)?;
    let tag: String = tag.split_whitespace().collect::<Vec<_>>().join("_");
    let tag = if tag.is_empty() { "run" } else { &tag };
    write_atomically(file, force, |out| {
        for (query, ranking) in task.queries().iter().zip(rankings) {
            let documents = ranking.iter().map(|found| (task.corpus().id(found.document), found.score));
            write_query(out, query.id, documents, tag)?;
        }
        Ok(())
    })
}

fn write_query<'a>(
    out: &mut dyn Write,
    query: &str,
    documents: impl Iterator<Item = (&'a str, f32)>,
    tag: &str,
) -> io::Result<()> {
    let mut before = f32::INFINITY;
    for ((document, score), rank) in documents.zip(1_usize..) {
        let score = if score < before { score } else { before.next_down() };
        writeln!(out, "{query} Q0 {document} {rank} {score} {tag}")?;
        before = score;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, ties: TieOrder) -> Result<Run, String> {
        Run::parse(Path::new("r"), text.as_bytes(), ties).map_err(|failure| {
            assert_eq!(failure.exit_code(), 3);
            failure.to_string()
        })
    }

    fn order(text: &str, ties: TieOrder) -> Vec<String> {
        let run = parse(text, ties).expect("read");
        run.documents_of("q").expect("there").map(|(id, _)| id.to_owned()).collect()
    }

    #[test]
    fn documents_go_by_score_and_equal_scores_by_the_rule() {
        let text = "\u{feff}q Q0 9 1 0.5 t\r\nq Q0 100 1 0.5 t\r\n\r\nother Q0 9 1 1 t\r\nq Q0 a 1 0.7 t\nq Q0 10 1 5e-1 t";
        assert_eq!(order(text, TieOrder::Ascending), ["a", "10", "100", "9"]);
        assert_eq!(order(text, TieOrder::Trec), ["a", "9", "100", "10"]);
        let run = parse(text, TieOrder::Ascending).expect("read");
        assert_eq!((run.tag.as_str(), run.queries.len()), ("t", 2));
        assert!(run.documents_of("absent").is_none());
        // Apart as f64, equal as trec_eval reads them.
        let close = "q Q0 a 1 0.50000000001 t\nq Q0 b 2 0.5 t\n";
        assert_eq!(order(close, TieOrder::Ascending), ["a", "b"]);
        assert_eq!(order(close, TieOrder::Trec), ["b", "a"]);
    }

    #[test]
    fn what_is_no_ranking_is_refused_by_its_line() {
        for (text, parts) in [
            ("", &["the file is empty", "six columns"][..]),
            ("q Q0 d 1 0.5 t\nq Q0 e 2 0.4\n", &["line 2", "found 5 columns, expected lines of six columns"]),
            ("q Q0 d 1 NaN t\n", &["line 1", "the score is \"NaN\", expected a finite number"]),
            ("q Q0 d 1 -inf t\n", &["the score is \"-inf\""]),
            ("q Q0 d 1 high t\n", &["the score is \"high\""]),
            ("q Q0 d first 0.5 t\n", &["the rank is \"first\""]),
            (
                "q Q0 d 1 0.5 t\nq Q0 d 2 0.4 t\n",
                &["line 2", "the query \"q\" has the document \"d\" in line 1"],
            ),
            (
                "q Q0 d 1 0.5 t\nq Q0 e 2 0.7 t\n",
                &["line 2", "rank 2 has the score 0.7, rank 1 in line 1 has the lower score 0.5"],
            ),
            (
                "q Q0 d 3 0.7 t\nq Q0 e 1 0.4 t\nq Q0 f 2 0.6 t\n",
                &["line 3", "rank 2 has the score 0.6, rank 1 in line 2"],
            ),
        ] {
            let message = parse(text, TieOrder::Ascending).expect_err(text);
            assert!(message.starts_with("r: ") && !message.contains('\n'), "{message}");
            assert!(parts.iter().all(|part| message.contains(part)), "{text:?}: {message}");
        }
    }

    #[test]
    fn equal_ranks_leave_the_order_to_the_scores() {
        assert_eq!(order("q Q0 a 0 1 t\nq Q0 b 0 2 t\nq Q0 c 0 3 t\n", TieOrder::Ascending), ["c", "b", "a"]);
    }

    #[test]
    fn a_written_order_is_read_back_under_any_rule_for_ties() {
        let documents =
            [("m", 0.75_f32), ("z", 0.5), ("b", 0.5), ("y", 0.5), ("a", 0.0), ("x", -0.0), ("c", -0.5)];
        let mut bytes = Vec::new();
        write_query(&mut bytes, "q", documents.iter().copied(), "t").expect("written");
        let text = String::from_utf8(bytes).expect("UTF-8");
        assert!(text.starts_with("q Q0 m 1 0.75 t\nq Q0 z 2 0.5 t\nq Q0 b 3 0.49999997 t\n"), "{text}");
        for ties in [TieOrder::Ascending, TieOrder::Trec] {
            assert_eq!(order(&text, ties), documents.map(|(id, _)| id), "{ties:?}");
        }
    }
}
