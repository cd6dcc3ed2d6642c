//! A data set as files of one folder: queries, corpus and labels apart, as BEIR and the first tools of this kind have it.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::form::First;
use super::reading::{Holding, Purpose, ReadingOptions};
use super::rows::titled;
use super::sections::{Entries as _, TextEntries, read_object};
use super::{CHECK_LABELS, Dataset, Labels, Pairs};
use crate::contents::Contents;
use crate::failure::Failure;
use crate::ids::{IdText, Ids};
use crate::json::{self, Place};
use crate::qrels;
use crate::texts::Texts;

const EXPECTED_FILES: &str = "expected corpus.jsonl, queries.jsonl and qrels/*.tsv (BEIR), or queries.json, corpus.json \
                              and relevant_docs.json, perhaps with the split in front as in train_queries.json";

/// Names of the files of each part, without their endings.
const CORPUS: &str = "corpus";
const QUERIES: &str = "queries";
const RELEVANT_DOCS: &str = "relevant_docs";
const NEGATIVE_DOCS: &str = "negative_docs";
const QRELS: &str = "qrels";

/// Keys of the id in rows of texts.
const ID_KEYS: &[&str] = &["_id", "id", "doc_id", "docid", "document_id", "query_id", "qid"];
/// Keys of the text.
const TEXT_KEYS: &[&str] = &["text", "contents", "content"];

/// Reads the data set in a folder.
pub(super) fn read(
    folder: &Path,
    options: &ReadingOptions,
    purpose: Purpose,
    holding: Holding<'_>,
) -> Result<Dataset, Failure> {
    let parts = Parts {
        folder,
        names: names(options, purpose),
        named: options.split.is_some(),
        all: options.split.is_none() && purpose.split_names().is_empty(),
    };
    let (corpus, queries) = (parts.find(CORPUS)?, parts.find(QUERIES)?);
    let (Some((corpus_file, _)), Some((queries_file, own_queries))) = (&corpus, &queries) else {
        return Err(parts.refuse_texts(corpus.is_some(), queries.is_some()));
    };
    let labels = parts.labels()?;
    let negatives = parts.find(NEGATIVE_DOCS)?;
    // One file of queries for several splits: those of the others are not missing their labels.
    let only = labels.of_split && !own_queries;
    let queries = read_queries(queries_file, (&labels.file, &labels.labels), only, holding)?;
    let corpus = read_corpus(corpus_file, holding)?;
    let negative_docs = negatives.map(|(file, _)| qrels::load(&file)).transpose()?;
    Ok(Dataset {
        file: labels.file,
        mode: None,
        queries,
        corpus,
        relevant_docs: labels.labels,
        negative_docs,
        query_embeddings: None,
        corpus_embeddings: None,
    })
}

/// Reads the data set around a file of judgements; none where there are no texts beside it.
pub(super) fn around(
    qrels_file: &Path,
    bytes: &[u8],
    holding: Holding<'_>,
) -> Result<Option<Dataset>, Failure> {
    for folder in folders_around(qrels_file) {
        let parts = Parts { folder, names: Vec::new(), named: false, all: true };
        if let (Some((corpus, _)), Some((queries, _))) = (parts.find(CORPUS)?, parts.find(QUERIES)?) {
            let relevant_docs = qrels::parse(qrels_file, bytes)?;
            return Ok(Some(Dataset {
                file: qrels_file.to_owned(),
                mode: None,
                queries: read_queries(&queries, (qrels_file, &relevant_docs), true, holding)?,
                corpus: read_corpus(&corpus, holding)?,
                relevant_docs,
                negative_docs: None,
                query_embeddings: None,
                corpus_embeddings: None,
            }));
        }
    }
    Ok(None)
}

/// The files of a data set in a folder, of all its splits.
pub(super) fn files_in(folder: &Path) -> Vec<PathBuf> {
    let in_folder = |folder: &Path| {
        let entries = fs::read_dir(folder).into_iter().flatten();
        entries.filter_map(|entry| Some(entry.ok()?.path())).collect::<Vec<_>>()
    };
    let is_part = |path: &Path| {
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        [CORPUS, QUERIES, RELEVANT_DOCS, NEGATIVE_DOCS, QRELS].iter().any(|&part| {
            let split = stem.strip_suffix(part);
            split.is_some_and(|split| split.is_empty() || split.ends_with('_'))
                || stem.strip_prefix(part).is_some_and(|split| split.starts_with('_'))
        })
    };
    let parts = in_folder(folder).into_iter().filter(|path| is_part(path));
    parts.chain(in_folder(&folder.join(QRELS))).collect()
}

/// Where the texts for a file of judgements may be: beside it, or a folder above.
fn folders_around(qrels_file: &Path) -> impl Iterator<Item = &Path> {
    let folders = qrels_file.ancestors().skip(1).take(2);
    folders.map(|folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder })
}

/// The files of texts that [`around`] looks for.
pub(super) fn texts_around(qrels_file: &Path) -> Vec<PathBuf> {
    let stems = folders_around(qrels_file).flat_map(|folder| [CORPUS, QUERIES].map(|part| folder.join(part)));
    stems.flat_map(|stem| ["jsonl", "json"].map(|ending| stem.with_extension(ending))).collect()
}

/// What the split may be called, the likeliest name first.
fn names(options: &ReadingOptions, purpose: Purpose) -> Vec<String> {
    match &options.split {
        Some(name) => vec![name.clone()],
        None => purpose.split_names().iter().map(ToString::to_string).collect(),
    }
}

/// Where to look.
struct Parts<'a> {
    folder: &'a Path,
    /// Names of the split.
    names: Vec<String>,
    /// Whether the command line names it.
    named: bool,
    /// Whether all splits are wanted.
    all: bool,
}

/// The labels of a split.
struct FoundLabels {
    /// Their file, or the folder of several.
    file: PathBuf,
    labels: Labels,
    /// Whether they are those of one split among others.
    of_split: bool,
}

impl Parts<'_> {
    /// The JSON file of a part, and whether it is that of this split alone.
    fn find(&self, part: &str) -> Result<Option<(PathBuf, bool)>, Failure> {
        let prefixed = self.names.iter().map(|name| (format!("{name}_{part}"), true));
        for (stem, own) in prefixed.chain([(part.to_owned(), false)]) {
            let files = ["jsonl", "json"].map(|ending| self.folder.join(format!("{stem}.{ending}")));
            match files.map(|file| file.is_file().then_some(file)) {
                [Some(one), Some(other)] => {
                    let other = other.file_name().unwrap_or_default().to_string_lossy().into_owned();
                    let problem = format!("{other} stands beside it; keep the one that is meant");
                    return Err(Failure::input(&one, problem));
                }
                [Some(file), None] | [None, Some(file)] => return Ok(Some((file, own))),
                [None, None] => {}
            }
        }
        Ok(None)
    }

    fn labels(&self) -> Result<FoundLabels, Failure> {
        if let Some((file, of_split)) = self.find(RELEVANT_DOCS)? {
            let labels = qrels::load(&file)?;
            return Ok(FoundLabels { file, labels, of_split });
        }
        let splits = self.splits()?;
        let several = splits.len() > 1;
        if self.all && several {
            let mut pairs = Pairs::default();
            for (_, file) in &splits {
                qrels::read(file, &Contents::of(file)?, &mut pairs)?;
            }
            let file = self.folder.to_owned();
            return Ok(FoundLabels { file, labels: pairs.into_labels(), of_split: false });
        }
        let named = self.names.iter().find_map(|name| splits.iter().find(|(split, _)| split == name));
        let chosen = match (named, &splits[..]) {
            (Some(named), _) => named,
            // The only one there is, whatever it is called; but not where another was asked for.
            (None, [only]) if !self.named => only,
            _ => return Err(self.refuse_labels(&splits)),
        };
        let labels = qrels::load(&chosen.1)?;
        Ok(FoundLabels { file: chosen.1.clone(), labels, of_split: true })
    }

    /// The files of judgements by the names of their splits, in the order of the names.
    fn splits(&self) -> Result<Vec<(String, PathBuf)>, Failure> {
        let mut splits = Vec::new();
        let folder = self.folder.join(QRELS);
        let in_folder = |path: &Path| {
            // Some systems leave hidden files of their own beside those that are copied.
            (!path.file_name()?.to_str()?.starts_with('.')).then_some(())?;
            let ending = path.extension()?.to_str()?;
            ["tsv", "txt", "qrels", "jsonl"].contains(&ending).then_some(())?;
            Some(path.file_stem()?.to_str()?.to_owned())
        };
        let beside = |path: &Path| {
            let name = in_folder(path)?;
            (name == QRELS).then(|| QRELS.to_owned()).or_else(|| {
                name.strip_prefix("qrels_").or_else(|| name.strip_suffix("_qrels")).map(str::to_owned)
            })
        };
        type NameOf<'a> = &'a dyn Fn(&Path) -> Option<String>;
        for (folder, name_of) in [(folder.as_path(), &in_folder as NameOf<'_>), (self.folder, &beside)] {
            if !folder.is_dir() {
                continue;
            }
            for entry in fs::read_dir(folder).map_err(|error| Failure::unreadable(folder, &error))? {
                let path = entry.map_err(|error| Failure::unreadable(folder, &error))?.path();
                if let Some(name) = name_of(&path).filter(|_| path.is_file()) {
                    splits.push((name, path));
                }
            }
            if !splits.is_empty() {
                break;
            }
        }
        // A folder has no order of its own.
        splits.sort();
        Ok(splits)
    }

    fn refuse_texts(&self, has_corpus: bool, has_queries: bool) -> Failure {
        for (part, found) in [(CORPUS, has_corpus), (QUERIES, has_queries)] {
            let packed = ["jsonl.gz", "json.gz"].map(|ending| self.folder.join(format!("{part}.{ending}")));
            if let Some(file) = packed.into_iter().find(|file| !found && file.is_file()) {
                let problem = "the file is compressed (gzip), expected text; unpack it first, as gunzip does";
                return Failure::input(&file, problem);
            }
        }
        let mut prefixed: Vec<String> = fs::read_dir(self.folder)
            .into_iter()
            .flatten()
            .filter_map(|entry| {
                let name = entry.ok()?.file_name().to_str()?.to_owned();
                Some(name.strip_suffix("_queries.json")?.to_owned()).filter(|split| !split.starts_with('.'))
            })
            .collect();
        prefixed.sort();
        let has_labels = self.folder.join(QRELS).is_dir();
        let problem = match (has_corpus, has_queries) {
            _ if !prefixed.is_empty() => {
                format!("its files are for the splits {}; choose one by --split", prefixed.join(", "))
            }
            (true, _) => format!("found a corpus but no queries; {EXPECTED_FILES}"),
            (_, true) => format!("found queries but no corpus; {EXPECTED_FILES}"),
            _ if has_labels => format!("found labels but neither a corpus nor queries; {EXPECTED_FILES}"),
            _ => format!("this is a folder, and one without a data set; {EXPECTED_FILES}"),
        };
        Failure::input(self.folder, problem)
    }

    fn refuse_labels(&self, splits: &[(String, PathBuf)]) -> Failure {
        let found = match splits {
            [] => format!("found texts but no labels; {EXPECTED_FILES}"),
            _ => {
                let names: Vec<_> = splits.iter().map(|(name, _)| name.as_str()).collect();
                let wanted = match self.names.first() {
                    Some(name) => format!("none called {name}"),
                    None => "not which of them is meant".to_owned(),
                };
                format!(
                    "found labels of the splits {}, but {wanted}; choose one by --split",
                    names.join(", ")
                )
            }
        };
        Failure::input(self.folder, found)
    }
}

/// Reads the queries, which may be the labelled ones in the same order; or these `only`.
fn read_queries(
    file: &Path,
    (labels_file, labels): (&Path, &Labels),
    only: bool,
    holding: Holding<'_>,
) -> Result<Texts, Failure> {
    let labelled = &labels.queries;
    let texts = TextEntries { texts: Texts::expecting(labelled), keep: holding.texts };
    let queries = read_texts(file, false, texts, only.then_some(labelled))?;
    if let (true, true, Some(first)) = (only, queries.ids.is_empty(), labelled.get(0)) {
        let problem = format!(
            "none of its queries (the first is {}) is among those of {}; {CHECK_LABELS}",
            json::quoted(first),
            file.file_name().unwrap_or_default().display()
        );
        return Err(Failure::input(labels_file, problem));
    }
    Ok(queries)
}

fn read_corpus(file: &Path, holding: Holding<'_>) -> Result<Texts, Failure> {
    let texts = TextEntries { texts: holding.corpus(), keep: holding.texts };
    read_texts(file, true, texts, None)
}

/// Reads `{id: text}`, or rows with an id and a text each; of `only` these, where it is given.
fn read_texts(
    file: &Path,
    titles: bool,
    mut texts: TextEntries<'_>,
    only: Option<&Ids>,
) -> Result<Texts, Failure> {
    let contents = Contents::of(file)?;
    let bytes = json::text_of(file, &contents)?;
    let place = Place::default();
    match First::of(bytes) {
        First::Object(keys) if is_text(&keys) => {
            json::each_value(file, bytes, &place, &mut |parser| {
                place.enter_section("");
                TextRow { texts: &mut texts, titles, only, place: &place }.deserialize(parser)
            })?;
        }
        First::List(keys) if is_text(&keys) => {
            let mut parser = serde_json::Deserializer::from_slice(bytes);
            TextRows { texts: &mut texts, titles, only, place: &place }
                .deserialize(&mut parser)
                .and_then(|()| parser.end())
                .map_err(|error| json::failure(file, bytes, &place, &error))?;
        }
        _ => return Ok(read_object(file, bytes, texts)?.texts),
    }
    Ok(texts.texts)
}

/// Whether an object with these keys is a text with its id.
pub(super) fn is_text(keys: &[String]) -> bool {
    let has = |names: &[&str]| keys.iter().any(|key| names.contains(&key.as_str()));
    has(ID_KEYS) && has(TEXT_KEYS)
}

/// A row `{"_id": …, "title": …, "text": …}`.
struct TextRow<'a, 'b> {
    texts: &'a mut TextEntries<'b>,
    titles: bool,
    only: Option<&'a Ids>,
    place: &'a Place,
}

impl<'de> DeserializeSeed<'de> for TextRow<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for TextRow<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a row with \"_id\" and \"text\"")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let (mut id, mut title, mut text) = (None::<String>, None::<String>, None::<String>);
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                key if ID_KEYS.contains(&key) && id.is_none() => id = Some(map.next_value::<IdText>()?.0),
                key if TEXT_KEYS.contains(&key) && text.is_none() => text = Some(map.next_value()?),
                "title" if self.titles => title = map.next_value()?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        let (Some(id), Some(text)) = (id, text) else {
            return Err(de::Error::custom("found a row without \"_id\" or \"text\", expected both"));
        };
        if self.only.is_some_and(|only| only.index_of(&id).is_none()) {
            return Ok(());
        }
        self.place.enter_entry(&id);
        self.texts.ids().push(&id).map_err(|rejected| {
            de::Error::custom(format!("this id stands in the file twice ({rejected}); keep one of the two"))
        })?;
        let text = title.map_or_else(|| text.clone(), |title| titled(&title, &text));
        self.texts.push(&text);
        Ok(())
    }
}

/// A list of such rows.
struct TextRows<'a, 'b> {
    texts: &'a mut TextEntries<'b>,
    titles: bool,
    only: Option<&'a Ids>,
    place: &'a Place,
}

impl<'de> DeserializeSeed<'de> for TextRows<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for TextRows<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of rows with \"_id\" and \"text\"")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Self { texts, titles, only, place } = self;
        loop {
            place.enter_section("");
            let row = TextRow { texts: &mut *texts, titles, only, place };
            if list.next_element_seed(row)?.is_none() {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new(files: &[(&str, &str)]) -> Self {
            let folder = Self(tempfile::tempdir().expect("a temporary folder"));
            for (name, text) in files {
                let path = folder.0.path().join(name);
                fs::create_dir_all(path.parent().expect("a folder")).expect("made");
                fs::write(path, text).expect("written");
            }
            folder
        }

        fn read(&self, split: Option<&str>, purpose: Purpose) -> Result<Dataset, Failure> {
            let options = ReadingOptions { split: split.map(str::to_owned), ..ReadingOptions::default() };
            Dataset::read(self.0.path(), &options, purpose)
        }

        fn refusal(&self, split: Option<&str>, purpose: Purpose) -> String {
            crate::failure::refusal(self.read(split, purpose))
        }
    }

    const BEIR: &[(&str, &str)] = &[
        (
            "corpus.jsonl",
            "{\"_id\": \"d1\", \"title\": \"Ferns\", \"text\": \"need water\", \"metadata\": {}}\n{\"_id\": \"d2\", \
             \"title\": \"\", \"text\": \"a shed\"}\n",
        ),
        (
            "queries.jsonl",
            "{\"_id\": \"1\", \"text\": \"a\"}\n{\"_id\": \"2\", \"text\": \"b\"}\n{\"_id\": \"3\", \"text\": \"c\"}\n",
        ),
        ("qrels/train.tsv", "query-id\tcorpus-id\tscore\n1\td1\t1\n2\td2\t2\n"),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\n3\td1\t1\n3\td2\t0\n"),
    ];

    fn ids(texts: &Texts) -> Vec<&str> {
        texts.ids.iter().collect()
    }

    #[test]
    fn a_beir_folder_gives_the_split_that_is_meant() {
        let folder = Folder::new(BEIR);
        let train = folder.read(None, Purpose::Train).expect("read");
        assert_eq!((ids(&train.queries), ids(&train.corpus)), (vec!["1", "2"], vec!["d1", "d2"]));
        assert_eq!(train.corpus.texts().collect::<Vec<_>>(), ["Ferns need water", "a shed"]);
        assert_eq!(train.relevant_docs.of("2").to_vec()[0].grade, 2.0);
        assert!(train.file.ends_with("qrels/train.tsv"));
        let test = folder.read(None, Purpose::Test).expect("read");
        assert_eq!((ids(&test.queries), test.relevant_docs.of("3").len()), (vec!["3"], 2));
        let named = folder.read(Some("train"), Purpose::Test).expect("read");
        assert_eq!(ids(&named.queries), ["1", "2"]);
        let all = folder.read(None, Purpose::Everything).expect("read");
        assert_eq!(ids(&all.queries), ["1", "2", "3"]);
        assert_eq!(all.relevant_docs.queries.len(), 3);
        let file = folder.0.path().join("qrels/test.tsv");
        let by_file = Dataset::load(&file).expect("read");
        assert_eq!((ids(&by_file.queries), &by_file.file), (vec!["3"], &file));
    }

    #[test]
    fn a_split_that_is_not_there_is_refused_with_those_that_are() {
        let folder = Folder::new(BEIR);
        for (split, purpose) in [(Some("dev"), Purpose::Train), (None, Purpose::Validation)] {
            let message = folder.refusal(split, purpose);
            assert!(
                message.contains("found labels of the splits test, train, but none called dev"),
                "{message}"
            );
            assert!(message.ends_with("choose one by --split"), "{message}");
        }
        let one = Folder::new(&BEIR[..3]);
        assert_eq!(ids(&one.read(None, Purpose::Test).expect("the only one").queries), ["1", "2"]);
        assert!(
            one.refusal(Some("test"), Purpose::Test).contains("of the splits train, but none called test")
        );
    }

    #[test]
    fn three_files_are_a_data_set_with_the_split_in_front_or_not() {
        let queries = "{\"q1\": \"a\", \"q2\": \"b\"}";
        let corpus = "{\"d1\": \"x\", \"d2\": \"y\"}";
        let labels = "{\"q1\": [\"d1\"], \"q2\": {\"d2\": 2}}";
        let plain = Folder::new(&[
            ("queries.json", queries),
            ("corpus.json", corpus),
            ("relevant_docs.json", labels),
        ]);
        let prefixed = Folder::new(&[
            ("train_queries.json", queries),
            ("train_corpus.json", corpus),
            ("train_relevant_docs.json", labels),
            ("val_queries.json", "{\"v\": \"a\"}"),
            ("val_corpus.json", corpus),
            ("val_relevant_docs.json", "{\"v\": [\"d2\"]}"),
        ]);
        for folder in [&plain, &prefixed] {
            let dataset = folder.read(None, Purpose::Train).expect("read");
            assert_eq!((ids(&dataset.queries), ids(&dataset.corpus)), (vec!["q1", "q2"], vec!["d1", "d2"]));
            assert_eq!(dataset.relevant_docs.of("q2").to_vec()[0].grade, 2.0);
        }
        assert_eq!(ids(&prefixed.read(None, Purpose::Validation).expect("read").queries), ["v"]);
        let message = prefixed.refusal(None, Purpose::Everything);
        assert!(
            message.contains("its files are for the splits train, val; choose one by --split"),
            "{message}"
        );
    }

    #[test]
    fn qrels_may_stand_beside_the_texts() {
        for name in ["qrels.tsv", "qrels.txt", "qrels_test.tsv", "test_qrels.tsv"] {
            let folder = Folder::new(&[BEIR[0], BEIR[1], (name, "3 0 d1 1\n")]);
            assert_eq!(ids(&folder.read(None, Purpose::Test).expect(name).queries), ["3"], "{name}");
        }
    }

    #[test]
    fn hidden_files_are_no_splits() {
        let hidden = [("qrels/._test.tsv", "\0\u{5}"), ("._qrels.tsv", "\0\u{5}")];
        for labels in ["qrels/test.tsv", "qrels.tsv"] {
            let folder = Folder::new(&[BEIR[0], BEIR[1], (labels, "3 0 d1 1\n"), hidden[0], hidden[1]]);
            for purpose in [Purpose::Train, Purpose::Everything] {
                let dataset = folder.read(None, purpose).expect(labels);
                assert_eq!(dataset.relevant_docs.queries.len(), 1, "{labels}");
            }
        }
        let prefixed = Folder::new(&[("train_queries.json", "{}"), ("._train_queries.json", "\0")]);
        let message = prefixed.refusal(None, Purpose::Everything);
        assert!(message.contains("its files are for the splits train; choose"), "{message}");
    }

    #[test]
    fn labels_of_other_queries_than_there_are_are_refused_by_the_first() {
        let folder = Folder::new(&[BEIR[0], BEIR[1], ("qrels/test.tsv", "q30\t0\td1\t1\nq31\t0\td1\t1\n")]);
        let expected = "test.tsv: none of its queries (the first is \"q30\") is among those of queries.jsonl; check that \
                        the labels (\"relevant_docs\", qrels) use the ids";
        let message = folder.refusal(None, Purpose::Test);
        assert!(message.contains(expected), "{message}");
        let file = folder.0.path().join("qrels/test.tsv");
        let read = Dataset::read(&file, &ReadingOptions::default(), Purpose::Test);
        let message = crate::failure::refusal(read);
        assert!(message.contains(expected), "{message}");
    }

    #[test]
    fn folders_and_texts_that_are_no_data_set_are_refused() {
        let with = |name: &str, text: &'static str| {
            let mut files = BEIR.to_vec();
            let place = files.iter_mut().find(|(known, _)| *known == name).expect("a file");
            place.1 = text;
            Folder::new(&files).refusal(None, Purpose::Test)
        };
        assert!(
            Folder::new(&[])
                .refusal(None, Purpose::Train)
                .contains("this is a folder, and one without a data set")
        );
        let message = Folder::new(&BEIR[..2]).refusal(None, Purpose::Train);
        assert!(
            message.contains("found texts but no labels; expected corpus.jsonl, queries.jsonl and"),
            "{message}"
        );
        for (files, expected) in [
            (&BEIR[..1], "found a corpus but no queries; expected corpus.jsonl, queries.jsonl and"),
            (&BEIR[1..], "found queries but no corpus; expected corpus.jsonl, queries.jsonl and"),
            (&BEIR[2..], "found labels but neither a corpus nor queries; expected corpus.jsonl,"),
            (&[BEIR[1], ("corpus.jsonl.gz", "\u{1f}")], "corpus.jsonl.gz: the file is compressed (gzip)"),
        ] {
            let read = Folder::new(files).read(None, Purpose::Test);
            let message = read.expect_err(expected).to_string();
            assert!(message.contains(expected), "{expected:?}: {message}");
        }
        for (file, text, expected) in [
            (
                "corpus.jsonl",
                "{\"_id\": \"d1\", \"text\": \"a\"}\n{\"_id\": \"d1\", \"text\": \"b\"}\n",
                "\"d1\": this id stands in the file twice",
            ),
            (
                "corpus.jsonl",
                "{\"_id\": \"d1\", \"text\": \"a\"}\n{\"_id\": \"d2\"}\n",
                "found a row without \"_id\" or \"text\"",
            ),
            ("corpus.jsonl", "{\"_id\": \"d1\", \"text\": null}\n", "found null, expected a string"),
            (
                "corpus.jsonl",
                "{\"_id\": \"d1\", \"text\": \"a\"}\n{\"_id\": \"d2\", \"te\n",
                "corpus.jsonl: line 2",
            ),
            ("corpus.jsonl", "", "corpus.jsonl: the file is empty"),
            ("queries.jsonl", "{\"a\": [1]}", "\"a\": found sequence, expected a string"),
            ("qrels/test.tsv", "3\td1\n", "test.tsv: line 1: found 2 columns"),
        ] {
            let message = with(file, text);
            assert!(message.contains(expected), "{expected:?}: {message}");
        }
        let twice = Folder::new(&[("corpus.json", "{}"), ("corpus.jsonl", "{}")]);
        let message = twice.refusal(None, Purpose::Test);
        assert!(message.contains("corpus.jsonl: corpus.json stands beside it; keep the one"), "{message}");
    }
}
