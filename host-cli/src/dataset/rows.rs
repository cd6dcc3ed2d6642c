//! A data set as rows, each a query with documents that answer it and perhaps some that do not: JSON Lines, or a list.

use std::fmt;
use std::path::Path;

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::Dataset;
use super::label_lists::{Label, by_query};
use super::reading::{Holding, ReadingOptions};
use super::sections::Grade;
use crate::failure::Failure;
use crate::ids::IdText;
use crate::json::{self, Place, quoted};
use crate::texts::{KeepTexts, TextKey, Texts};

/// What the query is called where nothing is said, the likeliest name first.
const QUERY_KEYS: &[&str] = &["query", "anchor", "question", "query_text"];
/// What the documents that answer it are called.
const DOCUMENT_KEYS: &[&str] = &[
    "positive",
    "positives",
    "pos",
    "positive_passages",
    "positive_ctxs",
    "document",
    "documents",
    "doc",
    "document_text",
    "passage",
    "chunk",
    "context",
    "answer",
    "text",
];
/// What the documents that do not answer it are called; all that are there count, `negative_1` and so on too.
const NEGATIVE_KEYS: &[&str] = &[
    "negative",
    "negatives",
    "neg",
    "hard_negative",
    "hard_negatives",
    "negative_passages",
    "negative_ctxs",
    "hard_negative_ctxs",
];
const QUERY_ID_KEYS: &[&str] = &["query_id", "query-id", "qid", "question_id", "id", "_id"];
const DOCUMENT_ID_KEYS: &[&str] = &[
    "document_id",
    "doc_id",
    "docid",
    "positive_id",
    "passage_id",
    "chunk_id",
    "context_id",
    "corpus_id",
    "corpus-id",
    "pid",
];
const GRADE_KEYS: &[&str] = &["grade", "relevance", "label", "score"];
/// Of a document that is an object.
const TEXT_KEYS: &[&str] = &["text", "contents", "content", "passage"];
const OWN_ID_KEYS: &[&str] = &["id", "_id", "docid", "doc_id", "document_id", "passage_id", "pid"];

/// Which keys of a row hold what, as its first row and the command line say.
#[derive(Debug)]
pub(super) struct RowKeys {
    query: String,
    query_id: Option<&'static str>,
    document: String,
    document_id: Option<&'static str>,
    negative: Option<String>,
    grade: Option<&'static str>,
}

impl RowKeys {
    /// The keys to read from rows like one with the keys `found`; none where there is no query or no document in it.
    pub(super) fn of(found: &[String], options: &ReadingOptions) -> Option<Self> {
        let has = |key: &str| found.iter().any(|found| found == key);
        let first = |names: &[&'static str]| names.iter().copied().find(|name| has(name));
        let chosen = |given: &Option<String>, names: &[&'static str]| match given {
            Some(key) => has(key).then(|| key.clone()),
            None => first(names).map(str::to_owned),
        };
        let query = chosen(&options.query_key, QUERY_KEYS)?;
        let document = chosen(&options.document_key, DOCUMENT_KEYS)?;
        let id = |names| first(names).filter(|&key| key != query && key != document);
        Some(Self {
            query_id: id(QUERY_ID_KEYS),
            document_id: id(DOCUMENT_ID_KEYS),
            grade: id(GRADE_KEYS),
            negative: options.negative_key.clone(),
            query,
            document,
        })
    }

    fn role(&self, key: &str) -> Role {
        if key == self.query {
            Role::Query
        } else if key == self.document {
            Role::Document
        } else if self.is_negative(key) {
            Role::Negative
        } else if self.query_id == Some(key) {
            Role::QueryId
        } else if self.document_id == Some(key) {
            Role::DocumentId
        } else if self.grade == Some(key) {
            Role::Grade
        } else if key == "title" {
            Role::Title
        } else {
            Role::Other
        }
    }

    fn is_negative(&self, key: &str) -> bool {
        match &self.negative {
            Some(given) => key == given,
            None => {
                let numbered = key.strip_prefix("negative_").is_some_and(|rest| rest.parse::<u32>().is_ok());
                numbered || NEGATIVE_KEYS.contains(&key)
            }
        }
    }
}

/// What the value of a key is.
enum Role {
    Query,
    QueryId,
    Document,
    DocumentId,
    Negative,
    Grade,
    Title,
    Other,
}

/// Reads rows that follow one another.
pub(super) fn read_lines(
    file: &Path,
    bytes: &[u8],
    keys: &RowKeys,
    holding: Holding<'_>,
) -> Result<Dataset, Failure> {
    let place = Place::default();
    let mut rows = Rows::new(keys, &place, holding);
    json::each_value(file, bytes, &place, &mut |parser| {
        place.enter_section("");
        RowSeed(&mut rows).deserialize(parser)
    })?;
    rows.into_dataset(file)
}

/// Reads a list of rows.
pub(super) fn read_list(
    file: &Path,
    bytes: &[u8],
    keys: &RowKeys,
    holding: Holding<'_>,
) -> Result<Dataset, Failure> {
    let place = Place::default();
    let mut rows = Rows::new(keys, &place, holding);
    let mut parser = serde_json::Deserializer::from_slice(bytes);
    ListSeed(&mut rows)
        .deserialize(&mut parser)
        .and_then(|()| parser.end())
        .map_err(|error| json::failure(file, bytes, &place, &error))?;
    rows.into_dataset(file)
}

/// The rows so far.
struct Rows<'a> {
    keys: &'a RowKeys,
    place: &'a Place,
    keep_texts: KeepTexts<'a>,
    queries: Texts,
    corpus: Texts,
    positives: Vec<Label>,
    negatives: Vec<Label>,
}

/// One row as it stands.
#[derive(Default)]
struct Row {
    query: Option<String>,
    query_id: Option<String>,
    documents: Option<Vec<Document>>,
    document_ids: Option<Vec<String>>,
    title: Option<String>,
    negatives: Vec<Document>,
    grade: Option<f64>,
}

/// One document as it stands.
struct Document {
    id: Option<String>,
    text: String,
}

impl<'a> Rows<'a> {
    fn new(keys: &'a RowKeys, place: &'a Place, holding: Holding<'a>) -> Self {
        Self {
            keys,
            place,
            keep_texts: holding.texts,
            queries: holding.queries(),
            corpus: holding.corpus(),
            positives: Vec::new(),
            negatives: Vec::new(),
        }
    }

    fn add(&mut self, row: Row) -> Result<(), String> {
        let Row { query, query_id, documents, document_ids, title, negatives, grade } = row;
        let missing = |key: &str| format!("found a row without {}, which rows before it have", quoted(key));
        let query = query.ok_or_else(|| missing(&self.keys.query))?;
        let mut documents = documents.ok_or_else(|| missing(&self.keys.document))?;
        if let Some(ids) = document_ids {
            if ids.len() != documents.len() {
                let (ids, documents) = (ids.len(), documents.len());
                return Err(format!("found {ids} ids for {documents} documents, expected one for each"));
            }
            for (document, id) in documents.iter_mut().zip(ids) {
                document.id.get_or_insert(id);
            }
        }
        if let (Some(title), [document]) = (&title, &mut documents[..]) {
            document.text = titled(title, &document.text);
        }
        let query = add_text(&mut self.queries, query_id, &query, self.keep_texts, "query")?;
        for document in documents {
            let document =
                add_text(&mut self.corpus, document.id, &document.text, self.keep_texts, "document")?;
            self.positives.push(Label { query, document, grade: grade.unwrap_or(1.0) });
        }
        for document in negatives {
            let document =
                add_text(&mut self.corpus, document.id, &document.text, self.keep_texts, "document")?;
            self.negatives.push(Label { query, document, grade: 1.0 });
        }
        Ok(())
    }

    fn into_dataset(self, file: &Path) -> Result<Dataset, Failure> {
        let Self { queries, corpus, positives, negatives, .. } = self;
        let by_query = |labels| by_query(queries.ids.clone(), corpus.ids.clone(), labels);
        let relevant_docs = by_query(positives);
        let negative_docs = (!negatives.is_empty()).then(|| by_query(negatives));
        Ok(Dataset {
            file: file.to_owned(),
            mode: None,
            queries,
            corpus,
            relevant_docs,
            negative_docs,
            query_embeddings: None,
            corpus_embeddings: None,
        })
    }
}

/// The text of a document with a title, as BEIR's evaluation puts them together.
pub(super) fn titled(title: &str, text: &str) -> String {
    match title.trim() {
        "" => text.to_owned(),
        title => format!("{title} {text}"),
    }
}

/// The position of a text, which is added if its id is not there yet.
fn add_text(
    texts: &mut Texts,
    id: Option<String>,
    text: &str,
    keep: KeepTexts<'_>,
    what: &str,
) -> Result<u32, String> {
    let key = TextKey::of(text);
    let given = id.is_some();
    let id = id.unwrap_or_else(|| key.id());
    match texts.ids.index_of(&id) {
        Some(position) if texts.keys.get(position as usize) == Some(&key) => Ok(position),
        Some(position) => {
            let row = position + 1;
            let advice = match given {
                true => {
                    "give each text an id of its own, or leave the ids out: then they are made from the texts"
                }
                false => "give the texts ids of their own",
            };
            let id = quoted(&id);
            Err(format!(
                "the {what} {id} has another text here than where it stood first, as {what} {row}; {advice}"
            ))
        }
        None => {
            let position = texts.ids.push(&id).map_err(|rejected| rejected.to_string())?;
            texts.push_text(text, keep);
            Ok(position)
        }
    }
}

struct ListSeed<'a, 'b>(&'a mut Rows<'b>);

impl<'de> DeserializeSeed<'de> for ListSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for ListSeed<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of rows")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        self.0.place.enter_section("");
        while list.next_element_seed(RowSeed(self.0))?.is_some() {
            self.0.place.enter_section("");
        }
        Ok(())
    }
}

struct RowSeed<'a, 'b>(&'a mut Rows<'b>);

impl<'de> DeserializeSeed<'de> for RowSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for RowSeed<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RowKeys { query, document, .. } = self.0.keys;
        write!(f, "a row with {} and {}", quoted(query), quoted(document))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut row = Row::default();
        let (keys, place) = (self.0.keys, self.0.place);
        while let Some(key) = map.next_key::<String>()? {
            let twice =
                || de::Error::custom(format!("the key {} stands in this row twice; keep one", quoted(&key)));
            place.enter_section("");
            place.enter_entry(&key);
            match keys.role(&key) {
                Role::Query => put(&mut row.query, map.next_value()?, twice)?,
                Role::QueryId => put(&mut row.query_id, map.next_value::<IdText>()?.0, twice)?,
                Role::Document => put(&mut row.documents, documents(&mut map, place)?, twice)?,
                Role::DocumentId => put(&mut row.document_ids, map.next_value_seed(IdsSeed)?, twice)?,
                Role::Negative => row.negatives.extend(documents(&mut map, place)?),
                Role::Grade => row.grade = map.next_value_seed(OptionalGrade { key: &key })?,
                Role::Title => row.title = map.next_value::<Option<String>>()?,
                Role::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        place.enter_section("");
        self.0.add(row).map_err(de::Error::custom)
    }
}

fn put<T, E>(place: &mut Option<T>, value: T, twice: impl FnOnce() -> E) -> Result<(), E> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(twice()),
    }
}

fn documents<'de, A: MapAccess<'de>>(map: &mut A, place: &Place) -> Result<Vec<Document>, A::Error> {
    let mut documents = Vec::new();
    map.next_value_seed(DocumentsSeed { documents: &mut documents, place, inside: false })?;
    Ok(documents)
}

/// A text, an object with a text, `null` for none, or a list of these.
struct DocumentsSeed<'a> {
    documents: &'a mut Vec<Document>,
    place: &'a Place,
    /// Whether this is in a list already.
    inside: bool,
}

impl<'de> DeserializeSeed<'de> for DocumentsSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for DocumentsSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.inside {
            true => "a text or an object with \"text\"",
            false => "a text, an object with \"text\", or a list of these",
        })
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<(), E> {
        self.documents.push(Document { id: None, text: text.to_owned() });
        Ok(())
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<(), E> {
        self.documents.push(Document { id: None, text });
        Ok(())
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        match self.inside {
            true => Err(E::invalid_type(de::Unexpected::Unit, &self)),
            false => Ok(()),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        if self.inside {
            return Err(de::Error::invalid_type(de::Unexpected::Seq, &self));
        }
        for item in 0.. {
            self.place.enter_item("item", item);
            let seed = DocumentsSeed { documents: &mut *self.documents, place: self.place, inside: true };
            if list.next_element_seed(seed)?.is_none() {
                break;
            }
        }
        self.place.leave_item();
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let (mut id, mut title, mut text) = (None, None, None::<String>);
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "title" => title = map.next_value::<Option<String>>()?,
                key if TEXT_KEYS.contains(&key) && text.is_none() => text = Some(map.next_value()?),
                key if OWN_ID_KEYS.contains(&key) && id.is_none() => id = Some(map.next_value::<IdText>()?.0),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        let Some(text) = text else {
            return Err(de::Error::custom(
                "found an object without \"text\", expected the document's text there",
            ));
        };
        let text = title.map_or_else(|| text.clone(), |title| titled(&title, &text));
        self.documents.push(Document { id, text });
        Ok(())
    }
}

/// One id, or a list of ids.
struct IdsSeed;

impl<'de> DeserializeSeed<'de> for IdsSeed {
    type Value = Vec<String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<String>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for IdsSeed {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an id (a string or an integer), or a list of ids")
    }

    fn visit_str<E: de::Error>(self, id: &str) -> Result<Vec<String>, E> {
        Ok(vec![id.to_owned()])
    }

    fn visit_u64<E: de::Error>(self, id: u64) -> Result<Vec<String>, E> {
        Ok(vec![id.to_string()])
    }

    fn visit_i64<E: de::Error>(self, id: i64) -> Result<Vec<String>, E> {
        Ok(vec![id.to_string()])
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<String>, A::Error> {
        let mut ids = Vec::new();
        while let Some(IdText(id)) = list.next_element()? {
            ids.push(id);
        }
        Ok(ids)
    }
}

/// A number or truth value as a grade. Keys such as `label` and `score` hold other things as well: those are no grades.
struct OptionalGrade<'a> {
    key: &'a str,
}

impl<'de> DeserializeSeed<'de> for OptionalGrade<'_> {
    type Value = Option<f64>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<f64>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for OptionalGrade<'_> {
    type Value = Option<f64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a grade of at most 1000000000")
    }

    fn visit_bool<E: de::Error>(self, relevant: bool) -> Result<Option<f64>, E> {
        Ok(Some(f64::from(u8::from(relevant))))
    }

    fn visit_f64<E: de::Error>(self, grade: f64) -> Result<Option<f64>, E> {
        match Grade::is_valid(grade) {
            true => Ok(Some(grade)),
            false => {
                Err(E::custom(format!("found {grade} as {}, expected at most 1000000000", quoted(self.key))))
            }
        }
    }

    fn visit_u64<E: de::Error>(self, grade: u64) -> Result<Option<f64>, E> {
        self.visit_f64(grade as f64)
    }

    fn visit_i64<E: de::Error>(self, grade: i64) -> Result<Option<f64>, E> {
        self.visit_f64(grade as f64)
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<Option<f64>, E> {
        Ok(None)
    }

    fn visit_unit<E: de::Error>(self) -> Result<Option<f64>, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Option<f64>, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Option<f64>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::dataset::Labels;

    fn parse(text: &str) -> Result<Dataset, Failure> {
        Dataset::parse(Path::new("rows.json"), text.as_bytes())
    }

    fn refusal(text: &str) -> String {
        let message = crate::failure::refusal(parse(text));
        message.strip_prefix("rows.json: ").expect("the file is named").to_owned()
    }

    /// Per query its text and those of its documents, with their grades.
    fn pairs(labels: &Labels, dataset: &Dataset) -> Vec<(String, Vec<(String, f64)>)> {
        let text = |texts: &Texts, id: &str| {
            texts.text(texts.ids.index_of(id).expect("an id")).expect("a text").to_owned()
        };
        let of = |id: &str| {
            let documents = labels.of(id).iter();
            documents
                .map(|label| (text(&dataset.corpus, &labels.documents[label.document]), label.grade))
                .collect()
        };
        labels.queries.iter().map(|id| (text(&dataset.queries, id), of(id))).collect()
    }

    fn positives(text: &str) -> Vec<(String, Vec<(String, f64)>)> {
        let dataset = parse(text).expect(text);
        pairs(&dataset.relevant_docs, &dataset)
    }

    fn expected(list: &[(&str, &[(&str, f64)])]) -> Vec<(String, Vec<(String, f64)>)> {
        let documents =
            |list: &[(&str, f64)]| list.iter().map(|&(text, grade)| (text.to_owned(), grade)).collect();
        list.iter().map(|&(query, list)| (query.to_owned(), documents(list))).collect()
    }

    #[test]
    fn every_known_form_of_a_row_is_read() {
        let both = expected(&[("a", &[("p", 1.0)]), ("b", &[("r", 1.0)])]);
        for (first, second) in [
            (r#"{"query": "a", "positive": "p"}"#, r#"{"query": "b", "positive": "r"}"#),
            (r#"{"anchor": "a", "positive": "p"}"#, r#"{"positive": "r", "anchor": "b", "x": [{}]}"#),
            (
                r#"{"question": "a", "chunk": "p", "chunk_id": 1}"#,
                r#"{"question": "b", "chunk": "r", "chunk_id": 2}"#,
            ),
            (r#"{"query": "a", "pos": ["p"], "neg": ["n"]}"#, r#"{"query": "b", "pos": ["r"], "neg": []}"#),
            (
                r#"{"question": "a", "context": "p", "answer": "x"}"#,
                r#"{"question": "b", "context": "r", "answer": "y"}"#,
            ),
            (
                r#"{"query_id": "1", "query": "a", "positive_passages": [{"docid": "7", "title": "", "text": "p"}]}"#,
                r#"{"query_id": "2", "query": "b", "positive_passages": [{"docid": "8", "text": "r"}]}"#,
            ),
        ] {
            for text in [
                format!("{first}\n{second}\n"),
                format!("\u{feff}\r\n{first}\r\n\r\n{second}"),
                format!("{first} {second}"),
                format!("[{first},\n{second}]"),
                format!("{first}\n{second}").replace(", ", ",\n"),
            ] {
                assert_eq!(positives(&text), both, "{text}");
            }
        }
    }

    #[test]
    fn rows_of_one_query_are_put_together_and_grades_are_kept() {
        let text = r#"{"query": "a", "document": "p", "label": 2}
            {"query": "b", "document": "p", "label": true}
            {"query": "a", "document": "q", "label": 0}
            {"query": "a", "document": "r", "label": "entailment"}"#;
        let found = expected(&[("a", &[("p", 2.0), ("q", 0.0), ("r", 1.0)]), ("b", &[("p", 1.0)])]);
        assert_eq!(positives(text), found);
        let dataset = parse(text).expect("read");
        assert_eq!((dataset.queries.ids.len(), dataset.corpus.ids.len()), (2, 3));
        assert!(dataset.negative_docs.is_none());
    }

    #[test]
    fn negatives_of_every_name_are_read() {
        let text = r#"{"anchor": "a", "positive": "p", "negative_1": "m", "negative_2": "n", "hard_negatives": ["o", "p2"]}
            {"anchor": "b", "positive": "q", "negative": null, "hard_negatives": []}"#;
        let dataset = parse(text).expect("read");
        let negatives = pairs(dataset.negative_docs.as_ref().expect("negatives"), &dataset);
        let of_a: &[(&str, f64)] = &[("m", 1.0), ("n", 1.0), ("o", 1.0), ("p2", 1.0)];
        assert_eq!(negatives, expected(&[("a", of_a), ("b", &[])]));
    }

    #[test]
    fn ids_are_those_given_or_made_of_the_texts() {
        let dataset = parse(r#"{"id": 7, "question": "a", "chunk_id": "c", "chunk": "p"}"#).expect("read");
        assert_eq!((&dataset.queries.ids[0], &dataset.corpus.ids[0]), ("7", "c"));
        let made = |text: &str| parse(text).expect(text);
        let (one, other) =
            (made(r#"{"query": "a", "positive": "p"}"#), made(r#"{"query": "b", "positive": ["x", "p"]}"#));
        assert_eq!(one.corpus.ids[0], other.corpus.ids[1]);
        assert_eq!(one.corpus.ids[0], TextKey::of("p").id());
        assert_ne!(one.queries.ids[0], other.queries.ids[0]);
    }

    #[test]
    fn a_title_stands_before_the_text() {
        let text = r#"{"query": "a", "passage": "p", "title": "T"}
            {"query": "b", "passage": [{"title": " ", "text": "q"}, {"title": "U", "contents": "r"}]}"#;
        let found = expected(&[("a", &[("T p", 1.0)]), ("b", &[("q", 1.0), ("U r", 1.0)])]);
        assert_eq!(positives(text), found);
    }

    #[test]
    fn keys_that_are_named_are_the_ones_that_count() {
        let options = ReadingOptions {
            query_key: Some("prompt".to_owned()),
            document_key: Some("query".to_owned()),
            negative_key: Some("bad".to_owned()),
            split: None,
        };
        let text = br#"{"prompt": "a", "query": "p", "bad": "n", "negative": "no"}"#;
        let file = Path::new("rows.json");
        let dataset =
            super::super::read_contents(file, text, &options, Holding::of(KeepTexts::All)).expect("read");
        assert_eq!(pairs(&dataset.relevant_docs, &dataset), expected(&[("a", &[("p", 1.0)])]));
        assert_eq!(dataset.corpus.texts().collect::<Vec<_>>(), ["p", "n"]);
        let message = super::super::read_contents(
            file,
            br#"{"query": "a", "positive": "p"}"#,
            &options,
            Holding::of(KeepTexts::All),
        )
        .expect_err("no such key")
        .to_string();
        assert!(message.contains("--query-key names \"prompt\", which is not among them"), "{message}");
    }

    #[test]
    fn rows_that_cannot_be_used_are_refused_by_line_and_key() {
        let first = r#"{"query": "a", "id": "1", "positive": "p", "pid": "9"}"#;
        for (row, expected) in [
            ("{\"query\": \"b\"}", "found a row without \"positive\", which rows before it have"),
            ("{\"positive\": \"p\"}", "found a row without \"query\""),
            ("{\"query\": 7, \"positive\": \"p\"}", "\"query\": found integer `7`, expected a string"),
            (
                "{\"query\": \"b\", \"positive\": 7}",
                "\"positive\": found integer `7`, expected a text, an object",
            ),
            (
                "{\"query\": \"b\", \"positive\": [\"p\", null]}",
                "\"positive\" item 1: found null, expected a text or an",
            ),
            ("{\"query\": \"b\", \"positive\": [[\"p\"]]}", "\"positive\" item 0: found sequence"),
            ("{\"query\": \"b\", \"positive\": {\"title\": \"T\"}}", "found an object without \"text\""),
            (
                "{\"query\": \"b\", \"query\": \"c\", \"positive\": \"p\"}",
                "the key \"query\" stands in this row twice",
            ),
            (
                "{\"query\": \"b\", \"id\": \"1\", \"positive\": \"p\"}",
                "the query \"1\" has another text here than where it stood first, as query 1",
            ),
            (
                "{\"query\": \"a\", \"positive\": \"other\", \"pid\": \"9\"}",
                "the document \"9\" has another text here",
            ),
            (
                "{\"query\": \"a\", \"positive\": [\"p\"], \"pid\": [\"8\", \"9\"]}",
                "found 2 ids for 1 documents",
            ),
            (
                "{\"query\": \"a\", \"positive\": \"p\", \"pid\": 1.5}",
                "\"pid\": found floating point `1.5`, expected an id",
            ),
            ("[1]", "found sequence, expected a row with \"query\" and \"positive\""),
            (
                "{\"query\": \"b\", \"positive\": \"p\"",
                "line 2: it ends in the middle of a value, expected the whole of it on this line",
            ),
            ("{\"query\": \"b\", \"positive\": }", "\"positive\": found \"}\", expected value"),
        ] {
            let message = refusal(&format!("{first}\n{row}\n{first}\n"));
            assert!(message.starts_with("line 2") && message.contains(expected), "{expected:?}: {message}");
        }
        let message = refusal("{\"query\": \"a\", \"positive\": \"p\", \"score\": 1e12}\n");
        assert!(
            message.contains("found 1000000000000 as \"score\", expected at most 1000000000"),
            "{message}"
        );
        let message = refusal("[{\"query\": \"a\", \"positive\": \"p\"}, {\"query\": \"b\"}]");
        assert!(message.contains("line 1 column 48: found a row without \"positive\""), "{message}");
        let message = refusal("[{\"query\": \"a\", \"positive\": \"p\"}] x");
        assert!(message.contains("trailing characters"), "{message}");
    }

    proptest! {
        #[test]
        fn no_damage_to_good_rows_makes_the_reader_panic(position in 0_usize..120, byte in any::<u8>()) {
            let mut bytes = br#"{"query": "a", "positive": ["p", {"id": 1, "text": "q"}], "neg": "n", "label": 1}
    {"query": "b", "positive": "r"}"#.to_vec();
            let position = position % bytes.len();
            bytes[position] = byte;
            if let Err(failure) = Dataset::parse(Path::new("rows.jsonl"), &bytes) {
                prop_assert!(!failure.to_string().contains('\n'), "{}", failure);
            }
        }

        #[test]
        fn any_texts_come_out_as_they_went_in(rows in prop::collection::vec(("\\PC{1,8}", "\\PC{1,8}"), 1..10)) {
            prop_assume!(rows.iter().all(|(query, document)| !query.trim().is_empty() && !document.trim().is_empty()));
            let lines: Vec<String> = rows
                .iter()
                .map(|(query, document)| serde_json::json!({"query": query, "positive": document}).to_string())
                .collect();
            let found = positives(&lines.join("\n"));
            let flat: usize = found.iter().map(|(_, documents)| documents.len()).sum();
            prop_assert_eq!(flat, rows.len());
            for (query, document) in rows {
                prop_assert!(found.iter().any(|(text, of)| *text == query && of.contains(&(document.clone(), 1.0))));
            }
        }
    }
}
