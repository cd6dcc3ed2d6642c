//! `host-cli embed`: the texts of data sets to a folder of vectors.

use std::fs;
use std::path::Path;

use query_adapter::Level;

use super::embedder::Embedder;
use super::origin;
use crate::claims::Claim;
use crate::dataset::{Dataset, Purpose};
use crate::failure::Failure;
use crate::files::write_atomically;
use crate::json::quoted;
use crate::options::EmbedOptions;
use crate::texts::{KeepTexts, Texts};
use crate::vectors::{NpyRows, Vectors};

/// The files written, in this order; the last one says that the others are complete.
const FILES: [&str; 5] = ["queries.npy", "query_ids.json", "corpus.npy", "corpus_ids.json", origin::FILE];

/// Runs the command; returns what to print on stdout.
///
/// # Errors
///
/// Every [`Failure`]; what was embedded before is in the cache.
pub fn run(options: &EmbedOptions, level: Level) -> Result<String, Failure> {
    let Some(mut embedder) = Embedder::open(&options.models, level, options.threads, options.quiet)? else {
        return Err(Failure::Usage(
            "embed needs --model: a folder, a name, or with --model-url a service's".to_owned(),
        ));
    };
    let folder = &options.output;
    let claim = || -> Result<Vec<Claim>, Failure> {
        FILES.iter().map(|name| Claim::take(&folder.join(name), options.force)).collect()
    };
    let mut claims = if folder.exists() { claim()? } else { Vec::new() };
    let (mut queries, mut corpus) = (Texts::default(), Texts::default());
    for file in &options.datasets {
        let dataset = Dataset::read(file, &options.reading, Purpose::Everything)?;
        merge(&mut queries, &dataset.queries, "query", file)?;
        merge(&mut corpus, &dataset.corpus, "document", file)?;
    }
    let (embeddings, counts) = embedder.embed_texts(&queries, &corpus)?;
    let origin = embedder.origin()?;
    fs::create_dir_all(folder).map_err(|error| Failure::unwritable(folder, &error))?;
    if claims.is_empty() {
        claims = claim()?;
    }
    let [query_vectors, query_ids, corpus_vectors, corpus_ids, model] = FILES.map(|name| folder.join(name));
    write_vectors(&query_vectors, &query_ids, &embeddings.queries, options.force)?;
    write_vectors(&corpus_vectors, &corpus_ids, &embeddings.corpus, options.force)?;
    let text = serde_json::to_string_pretty(&origin).map_err(anyhow::Error::from)?;
    write_atomically(&model, options.force, |out| writeln!(out, "{text}"))?;
    drop(claims);
    let (queries, documents) = (embeddings.queries.len(), embeddings.corpus.len());
    let (folder, dim) = (folder.display(), embeddings.corpus.dim());
    Ok(format!("{counts}\n{folder} holds {queries} queries and {documents} documents of {dim} components\n"))
}

/// Adds the texts of one more data set; an id has one text.
fn merge(all: &mut Texts, more: &Texts, what: &str, file: &Path) -> Result<(), Failure> {
    for (id, text) in more.ids.iter().zip(more.texts()) {
        match all.ids.index_of(id) {
            Some(at) if all.text(at) == Some(text) => {}
            Some(_) => {
                let id = quoted(id);
                let problem =
                    format!("the {what} {id} has another text in a data set before; embed them one by one");
                return Err(Failure::input(file, problem));
            }
            None => {
                all.ids.push(id).map_err(|rejected| Failure::input(file, rejected.to_string()))?;
                all.push_text(text, KeepTexts::All);
            }
        }
    }
    Ok(())
}

fn write_vectors(matrix: &Path, ids: &Path, vectors: &Vectors, force: bool) -> Result<(), Failure> {
    write_atomically(matrix, force, |out| {
        let mut out = NpyRows::begin(out, vectors.len(), vectors.dim())?;
        out.write(vectors.matrix().as_slice())?;
        out.finish()
    })?;
    let list: Vec<&str> = (0..vectors.len()).map(|row| vectors.id(row)).collect();
    let text = serde_json::to_string_pretty(&list).map_err(anyhow::Error::from)?;
    write_atomically(ids, force, |out| writeln!(out, "{text}"))
}
