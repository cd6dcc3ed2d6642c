//! `host-cli explain`: one query's documents before and after an adapter, and the training pairs that are near to it.

use core::fmt::Write as _;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

use clap::Args;
use comfy_table::Table;
use query_adapter::Level;
use serde::Serialize;
use serde_json::json;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use crate::adapter_file::AdapterFile;
use crate::contents::require_rereadable;
use crate::dataset::{Dataset, Purpose, ReadingOptions};
use crate::failure::Failure;
use crate::json::quoted;
use crate::metrics::{DEPTH, Gain, Judged, Metric, best_documents};
use crate::options::Common;
use crate::parallel::available_threads;
use crate::ranking::Index;
use crate::report::{self, is_unseen, printable};
use crate::report_page::fingerprint::file_name;
use crate::retrieval_task::{Query, RetrievalTask, norm};
use crate::texts::{TextKey, Texts};
use crate::vector_source::VectorSource;

/// Training pairs that are shown.
const NEAREST: usize = 5;

/// Columns of a terminal that the tables take at most.
const WIDTH: usize = 100;

/// Columns of an id in a table, at most.
const ID_WIDTH: usize = 30;

/// Options of `explain`.
#[derive(Debug, Args)]
pub struct ExplainOptions {
    /// Data set that has the query: EmbeddingQAFinetuneDataset JSON, rows of a query and a document, or a folder (BEIR)
    pub dataset: PathBuf,
    /// Adapter file
    #[arg(long, short, value_name = "FILE")]
    pub adapter: PathBuf,
    /// Id of the query
    #[arg(long, value_name = "ID")]
    pub query: String,
    /// Data set that the adapter was trained on, to look for the nearest training pairs in [default: the data set itself]
    #[arg(long, value_name = "FILE")]
    pub train: Option<PathBuf>,
    /// Documents to show, before and after
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub top: u8,
    #[command(flatten)]
    #[allow(missing_docs, reason = "flattened into the help of its fields")]
    pub common: Common,
}

/// A document under both rankings.
#[derive(Clone, Debug, Serialize)]
struct Document {
    document: String,
    relevant: bool,
    rank_before: usize,
    rank_after: usize,
    score_before: f32,
    score_after: f32,
    text: String,
}

/// A training query with its answers.
#[derive(Clone, Debug, Serialize)]
struct Pair {
    query: String,
    /// Of the two queries' vectors, before the adapter.
    cosine: f64,
    text: String,
    answers: Vec<Answer>,
}

/// What answers a training query.
#[derive(Clone, Debug, Serialize)]
struct Answer {
    document: String,
    text: String,
    /// Whether it is relevant to the query that is explained, too.
    shared: bool,
}

/// All that is said of a query.
struct Explanation {
    query: String,
    text: String,
    ndcg: (f64, f64),
    relevant: Vec<Document>,
    before: Vec<Document>,
    after: Vec<Document>,
    nearest: Vec<Pair>,
    /// Where the nearest pairs were looked for.
    trained_on: String,
}

/// Runs the command; returns what to print on stdout.
///
/// # Errors
///
/// [`Failure::Input`] for data or an adapter that cannot be used, data that can be read once only, and a query that is not there or
/// has no relevant document.
pub fn run(options: &ExplainOptions, level: Level, note: &mut dyn FnMut(&str)) -> Result<String, Failure> {
    // The texts that are shown are read when it is known which they are.
    for file in [Some(&options.dataset), options.train.as_ref()].into_iter().flatten() {
        require_rereadable(file, "explain")?;
    }
    let common = &options.common;
    let file = AdapterFile::open(&options.adapter, level)?;
    let mut source = VectorSource::open(common.embeddings.as_deref(), &common.models, common, level)?;
    source.require(&file, note)?;
    let (dataset, reading) = (options.dataset.as_path(), &common.reading);
    let task = source.load(dataset, note)?;
    file.require_dim(task.dim())?;
    let adapter = file.adapter(level)?;
    let query = find(&task, &options.query)?;

    let threads = common.threads.unwrap_or_else(available_threads);
    let index = Index::new(task.corpus(), level)?.with_threads(threads);
    let before = Ranked::new(&task, index.scores(&task, query, None)?);
    let after = Ranked::new(&task, index.scores(&task, query, Some(&adapter))?);

    let train = match &options.train {
        Some(train) => Some(source.load_for(Purpose::Train, train, note)?),
        None => None,
    };
    let trained = train.as_ref().unwrap_or(&task);
    if trained.dim() != task.dim() {
        let problem = format!(
            "its vectors have {} components, those of {} have {}; embed both with one model",
            trained.dim(),
            task.file().display(),
            task.dim()
        );
        return Err(Failure::input(trained.file(), problem));
    }
    let near = nearest(&task, query, trained);

    let top = usize::from(options.top).min(task.corpus().len());
    let positives = task.query(query).positives.to_vec();
    let shown = before.order[..top].iter().chain(&after.order[..top]).copied();
    let documents: Vec<u32> = shown.chain(positives.iter().map(|positive| positive.document)).collect();
    let texts = ShownTexts::load((dataset, reading, Purpose::Test), &task, &[query], &documents)?;
    let near_queries: Vec<usize> = near.iter().map(|&(query, _)| query).collect();
    let near_documents: Vec<u32> = near_queries
        .iter()
        .flat_map(|&query| trained.query(query).positives.iter())
        .map(|positive| positive.document)
        .collect();
    let read_as = match &options.train {
        Some(train) => (train.as_path(), reading, Purpose::Train),
        None => (dataset, reading, Purpose::Test),
    };
    let trained_texts = ShownTexts::load(read_as, trained, &near_queries, &near_documents)?;

    let document = |document: u32| {
        let at = document as usize;
        Document {
            document: task.corpus().id(document).to_owned(),
            relevant: positives.iter().any(|positive| positive.document == document),
            rank_before: before.ranks[at],
            rank_after: after.ranks[at],
            score_before: before.scores[at],
            score_after: after.scores[at],
            text: texts.document(task.corpus().id(document)),
        }
    };
    let ndcg = |ranked: &Ranked| {
        let ranking = &ranked.order[..DEPTH.min(ranked.order.len())];
        Metric::NDCG_AT_10.value(&Judged::new(ranking, &positives, Gain::Binary))
    };
    let explanation = Explanation {
        query: options.query.clone(),
        text: texts.query(&options.query),
        ndcg: (ndcg(&before), ndcg(&after)),
        relevant: positives.iter().map(|positive| document(positive.document)).collect(),
        before: before.order[..top].iter().map(|&d| document(d)).collect(),
        after: after.order[..top].iter().map(|&d| document(d)).collect(),
        nearest: near
            .iter()
            .map(|&(near, cosine)| pair(trained, trained.query(near), cosine, &trained_texts, &task, query))
            .collect(),
        trained_on: trained.file().display().to_string(),
    };
    Ok(if common.json { format!("{}\n", explanation.value()) } else { explanation.text() })
}

/// The place of a query in a task.
fn find(task: &RetrievalTask, id: &str) -> Result<usize, Failure> {
    task.queries().iter().position(|query| query.id == id).ok_or_else(|| {
        let first: Vec<String> = task.queries().iter().take(3).map(|query| quoted(query.id)).collect();
        let problem = format!(
            "there is no query {} with a relevant document; ids are compared byte for byte, the first are {}",
            quoted(id),
            first.join(", ")
        );
        Failure::input(task.file(), problem)
    })
}

/// All documents in their order.
struct Ranked {
    scores: Vec<f32>,
    order: Vec<u32>,
    /// For each document its rank, from 1.
    ranks: Vec<usize>,
}

impl Ranked {
    fn new(task: &RetrievalTask, scores: Vec<f32>) -> Self {
        let order = best_documents(&scores, task.corpus().byte_ranks(), scores.len());
        let mut ranks = vec![0; order.len()];
        for (&document, rank) in order.iter().zip(1..) {
            ranks[document as usize] = rank;
        }
        Self { scores, order, ranks }
    }
}

/// The training queries nearest to a query by the cosine of their vectors, the query itself left out; equal ones in the order of
/// the file.
fn nearest(task: &RetrievalTask, query: usize, trained: &RetrievalTask) -> Vec<(usize, f64)> {
    let (vector, asked) = (task.query_vector(query), task.query(query));
    let length = norm(vector);
    let cosine = |other: &[f32]| {
        let product: f64 = vector.iter().zip(other).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
        let lengths = length * norm(other);
        if lengths > 0.0 { product / lengths } else { 0.0 }
    };
    let others = trained.queries().iter().enumerate();
    let others = others.filter(|(_, other)| !(other.id == asked.id && other.text == asked.text));
    let mut all: Vec<(usize, f64)> =
        others.map(|(other, _)| (other, cosine(trained.query_vector(other)))).collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1));
    all.truncate(NEAREST);
    all
}

fn pair(
    trained: &RetrievalTask,
    near: Query<'_>,
    cosine: f64,
    texts: &ShownTexts,
    task: &RetrievalTask,
    query: usize,
) -> Pair {
    let (corpus, own) = (trained.corpus(), task.corpus());
    // As an answer was seen in training: by id and text, another file's ids may name other documents.
    let is_shared = |document: u32| {
        own.index_of(corpus.id(document)).is_some_and(|here| {
            own.text(here) == corpus.text(document)
                && task.query(query).positives.iter().any(|positive| positive.document == here)
        })
    };
    let answers = near.positives.iter().map(|positive| Answer {
        document: corpus.id(positive.document).to_owned(),
        text: texts.document(corpus.id(positive.document)),
        shared: is_shared(positive.document),
    });
    Pair { query: near.id.to_owned(), cosine, text: texts.query(near.id), answers: answers.collect() }
}

/// The texts that are shown, read again: a task has none.
struct ShownTexts {
    queries: Texts,
    documents: Texts,
}

impl ShownTexts {
    /// Those of some queries and documents of a task, from where it was read.
    fn load(
        (path, reading, purpose): (&Path, &ReadingOptions, Purpose),
        task: &RetrievalTask,
        queries: &[usize],
        documents: &[u32],
    ) -> Result<Self, Failure> {
        let keys: HashSet<TextKey> = queries
            .iter()
            .map(|&query| task.query(query).text)
            .chain(documents.iter().map(|&document| task.corpus().text(document)))
            .collect();
        let Dataset { queries, corpus, .. } = Dataset::read_with_texts(path, &keys, reading, purpose)?;
        Ok(Self { queries, documents: corpus })
    }

    fn query(&self, id: &str) -> String {
        text(&self.queries, id)
    }

    fn document(&self, id: &str) -> String {
        text(&self.documents, id)
    }
}

fn text(texts: &Texts, id: &str) -> String {
    texts.ids.index_of(id).and_then(|at| texts.text(at)).unwrap_or("").to_owned()
}

impl Explanation {
    fn value(&self) -> serde_json::Value {
        json!({
            "query": self.query,
            "text": self.text,
            "ndcg@10": { "base": self.ndcg.0, "adapted": self.ndcg.1 },
            "relevant": self.relevant,
            "before": self.before,
            "after": self.after,
            "trained_on": self.trained_on,
            "nearest": self.nearest,
        })
    }

    fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = writeln!(text, "query {}: {}", quoted(&self.query), excerpt(&self.text, 3 * WIDTH));
        let _ = writeln!(text, "nDCG@10 {:.4} → {:.4}", self.ndcg.0, self.ndcg.1);
        for document in &self.relevant {
            let (id, change) = (quoted(&document.document), document.score_after - document.score_before);
            let _ = writeln!(
                text,
                "relevant {id}: rank {} → {}, score {:.4} → {:.4} ({change:+.4})",
                document.rank_before, document.rank_after, document.score_before, document.score_after
            );
        }
        let before = table(["rank", "then", "score"], 66, &self.before, |document| {
            let moved = moved(document.rank_before, document.rank_after);
            [document.rank_before.to_string(), moved, format!("{:.4}", document.score_before)]
        });
        let after = table(["rank", "before", "score", "change"], 54, &self.after, |document| {
            let moved = moved(document.rank_after, document.rank_before);
            let change = format!("{:+.4}", document.score_after - document.score_before);
            [document.rank_after.to_string(), moved, format!("{:.4}", document.score_after), change]
        });
        let _ = writeln!(text, "\nbefore: the first {}\n{before}", self.before.len());
        let _ = writeln!(text, "\nthrough the adapter: the first {}\n{after}", self.after.len());
        let _ = writeln!(text, "* relevant");
        let file = printable(&file_name(Path::new(&self.trained_on)));
        let _ = writeln!(text, "\nnearest of the queries of {file}, by cosine before the adapter");
        for pair in &self.nearest {
            let id = quoted(&pair.query);
            let room = (WIDTH - 10).saturating_sub(id.width());
            let _ = writeln!(text, "  {:.4}  {id} {}", pair.cosine, excerpt(&pair.text, room));
            for Answer { document, text: answer, shared } in &pair.answers {
                let id = quoted(document);
                let room = (WIDTH - 14).saturating_sub(id.width());
                let mark = if *shared { "*" } else { " " };
                let _ = writeln!(text, "        → {mark} {id} {}", excerpt(answer, room));
            }
        }
        if self.nearest.is_empty() {
            let _ = writeln!(text, "  there is no other");
        }
        text
    }
}

/// Another rank of a document, nothing where it is the same.
fn moved(here: usize, there: usize) -> String {
    if here == there { "=".to_owned() } else { there.to_string() }
}

/// A table of documents: numbers, a mark, and id and text in so many columns of the terminal as these leave.
fn table<const N: usize>(
    numbers: [&str; N],
    room: usize,
    documents: &[Document],
    cells: impl Fn(&Document) -> [String; N],
) -> Table {
    let mut table =
        report::table(numbers.into_iter().chain(["", "document", "text"]).collect::<Vec<_>>(), 0..N);
    let longest = documents.iter().map(|document| document.document.width()).max().unwrap_or(0);
    let id_width = longest.clamp("document".len(), ID_WIDTH);
    for document in documents {
        let mark = if document.relevant { "*" } else { "" }.to_owned();
        let id = excerpt(&document.document, id_width);
        let text = excerpt(&document.text, room - id_width);
        table.add_row(cells(document).into_iter().chain([mark, id, text]));
    }
    table
}

/// The beginning of a text on one line, at most so many columns of a terminal wide.
fn excerpt(text: &str, width: usize) -> String {
    let mut line = String::new();
    for word in text.split(|c: char| c.is_whitespace() || is_unseen(c)).filter(|word| !word.is_empty()) {
        if !line.is_empty() {
            line.push(' ');
        }
        line += word;
        if line.width() > width {
            let mut cut = String::new();
            let mut used = 1;
            for character in line.chars() {
                used += character.width().unwrap_or(0);
                if used > width {
                    break;
                }
                cut.push(character);
            }
            return cut.trim_end().to_owned() + "…";
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_is_one_line_of_its_width() {
        assert_eq!(excerpt(" a\n\tb\u{1b}[1m  c ", 20), "a b [1m c");
        assert_eq!(excerpt("a\u{202e}b\u{2066}c", 20), "a b c");
        assert_eq!(excerpt("one two three", 9), "one two…");
        assert_eq!(excerpt("one two three", 13), "one two three");
        // Two columns each.
        assert_eq!(excerpt("東京都庁", 8), "東京都庁");
        assert_eq!(excerpt("東京都庁", 7), "東京都…");
        assert_eq!(excerpt("", 5), "");
    }
}
