//! `host-cli synthesize`: a made-up data set of any size, to see how time and memory grow.

use std::fs;
use std::io::{self, Write};

use npyz::WriterBuilder as _;
use query_adapter::sample::Generator;

use crate::claims::Claim;
use crate::failure::Failure;
use crate::files::write_atomically;
use crate::options::SynthesizeOptions;

/// Queries and documents of the small data set beside the large one: enough to rank, few enough to take no time.
const SMALL_QUERIES: u32 = 200;
const SMALL_DOCUMENTS: u32 = 1000;

/// Runs the command; returns what to print on stdout. Memory does not grow with the numbers.
///
/// # Errors
///
/// [`Failure::Output`] when a file exists already and `--force` is not given, or cannot be written.
pub fn run(options: &SynthesizeOptions) -> Result<String, Failure> {
    let set = Set {
        queries: options.queries,
        documents: options.documents,
        small_queries: options.queries.min(SMALL_QUERIES),
        small_documents: options.documents.min(SMALL_DOCUMENTS),
        dim: options.dim as usize,
        seed: options.seed,
    };
    let folder = &options.output;
    if folder.exists() && !folder.is_dir() {
        return Err(Failure::output(folder, "this is a file; name a folder to write the data set to"));
    }
    fs::create_dir_all(folder).map_err(|error| Failure::unwritable(folder, &error))?;
    type Writing<'a> = (&'static str, &'a dyn Fn(&mut dyn Write) -> io::Result<()>);
    let files: [Writing<'_>; 6] = [
        ("corpus.npy", &|out| set.write_documents(out)),
        ("corpus_ids.json", &|out| write_list(out, (0..set.documents).map(document_id))),
        ("queries.npy", &|out| set.write_queries(out)),
        ("query_ids.json", &|out| write_list(out, (0..set.all_queries()).map(|query| set.query_id(query)))),
        ("train.json", &|out| set.write_json(out, 0..set.queries, set.documents)),
        ("validation.json", &|out| set.write_json(out, set.queries..set.all_queries(), set.small_documents)),
    ];
    let claims = files.iter().map(|(name, _)| Claim::take(&folder.join(name), options.force));
    let _claims = claims.collect::<Result<Vec<_>, _>>()?;
    for (name, contents) in files {
        write_atomically(&folder.join(name), options.force, contents)?;
    }
    Ok(format!(
        "{}: {} queries and {} documents of {} components; {} queries and {} documents for validation\n",
        folder.display(),
        set.queries,
        set.documents,
        set.dim,
        set.small_queries,
        set.small_documents
    ))
}

/// What the data set is made of. Every vector follows from its number and the seed, so none is ever looked up.
struct Set {
    queries: u32,
    documents: u32,
    small_queries: u32,
    small_documents: u32,
    dim: usize,
    seed: u64,
}

fn document_id(document: u32) -> String {
    format!("d{document:08}")
}

impl Set {
    /// Those of training, then those of validation.
    fn all_queries(&self) -> u32 {
        self.queries + self.small_queries
    }

    fn query_id(&self, query: u32) -> String {
        match query.checked_sub(self.queries) {
            None => format!("q{query:08}"),
            Some(small) => format!("v{small:08}"),
        }
    }

    /// The document that answers a query.
    fn answer(&self, query: u32) -> u32 {
        match query.checked_sub(self.queries) {
            None => query % self.documents,
            Some(small) => small % self.small_documents,
        }
    }

    /// Components between −1 and 1, those of the `number`th vector of a kind.
    fn components(&self, kind: u64, number: u32) -> impl Iterator<Item = f32> {
        let mut generator = Generator::new(self.seed ^ (kind << 62) ^ (u64::from(number) << 24));
        (0..self.dim).map(move |_| generator.below(1 << 24) as f32 / (1 << 23) as f32 - 1.0)
    }

    fn write_documents(&self, out: &mut dyn Write) -> io::Result<()> {
        let rows = (0..self.documents).flat_map(|document| self.components(1, document));
        write_npy(out, self.documents, self.dim, rows)
    }

    /// A query is its document with the components turned by one place, and as much noise: useless to the base, and
    /// something to learn.
    fn write_queries(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut document = Vec::with_capacity(self.dim);
        let rows = (0..self.all_queries()).flat_map(|query| {
            document.clear();
            document.extend(self.components(1, self.answer(query)));
            document.rotate_left(1);
            let noise = self.components(2, query);
            document.iter().zip(noise).map(|(&component, noise)| component + noise).collect::<Vec<_>>()
        });
        write_npy(out, self.all_queries(), self.dim, rows)
    }

    fn write_json(
        &self,
        out: &mut dyn Write,
        queries: core::ops::Range<u32>,
        documents: u32,
    ) -> io::Result<()> {
        out.write_all(b"{\"queries\": ")?;
        write_object(
            out,
            queries.clone().map(|query| (self.query_id(query), format!("\"question {query}\""))),
        )?;
        out.write_all(b", \"corpus\": ")?;
        write_object(
            out,
            (0..documents).map(|document| {
                let text = format!("\"passage {document}, made up to see how time and memory grow\"");
                (document_id(document), text)
            }),
        )?;
        out.write_all(b", \"relevant_docs\": ")?;
        write_object(
            out,
            queries.map(|query| (self.query_id(query), format!("[\"{}\"]", document_id(self.answer(query))))),
        )?;
        out.write_all(b"}\n")
    }
}

fn write_npy(
    out: &mut dyn Write,
    rows: u32,
    dim: usize,
    components: impl Iterator<Item = f32>,
) -> io::Result<()> {
    let shape = [u64::from(rows), dim as u64];
    let mut out = npyz::WriteOptions::<f32>::new().default_dtype().shape(&shape).writer(out).begin_nd()?;
    out.extend(components)?;
    out.finish()
}

/// Ids and values are plain ASCII without quotes inside.
fn write_object(out: &mut dyn Write, entries: impl Iterator<Item = (String, String)>) -> io::Result<()> {
    let mut separator = "{";
    for (id, value) in entries {
        write!(out, "{separator}\"{id}\": {value}")?;
        separator = ",\n";
    }
    out.write_all(b"}")
}

fn write_list(out: &mut dyn Write, ids: impl Iterator<Item = String>) -> io::Result<()> {
    let mut separator = "[";
    for id in ids {
        write!(out, "{separator}\"{id}\"")?;
        separator = ",\n";
    }
    out.write_all(b"]\n")
}
