//! The data set in one JSON object: `EmbeddingQAFinetuneDataset`, with vectors inside it or without.

use std::fmt;
use std::path::Path;

use serde::de::{self, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::form::shown;
use super::reading::Holding;
use super::sections::{Entries, EntriesSeed, LabelEntries, OptionalSeed, TextEntries, VectorEntries};
use super::{Dataset, Labels, ReadingOptions, expected_instead_of};
use crate::failure::Failure;
use crate::ids::Ids;
use crate::json::{self, Place};
use crate::texts::Texts;
use crate::vectors::Vectors;

/// The form that a data set file must have, as errors say it.
pub(super) const EXPECTED_FORM: &str = "expected one object with \"queries\" {id: text}, \"corpus\" {id: text} and \
                             \"relevant_docs\" {query id: [document ids]}";

/// Reads the contents of a file.
///
/// # Errors
///
/// [`Failure::Input`]; what is no data set is explained by its keys.
pub(super) fn read(
    file: &Path,
    bytes: &[u8],
    options: &ReadingOptions,
    holding: Holding<'_>,
) -> Result<Dataset, Failure> {
    let place = Place::default();
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let fail = |error| json::failure(file, bytes, &place, &error);
    let sections =
        deserializer.deserialize_any(FileVisitor { file, place: &place, holding }).map_err(fail)?;
    place.enter_section("");
    let trailing = deserializer.end().err();

    let (Some(queries), Some(corpus), Some(relevant_docs)) =
        (sections.queries, sections.corpus, sections.relevant_docs)
    else {
        let keys = shown(&sections.keys);
        let found = match trailing {
            Some(_) => format!("this looks like JSON Lines rows with the keys {keys}"),
            None if keys.is_empty() => "found an empty object".to_owned(),
            None => format!("found an object with the keys {keys}"),
        };
        return Err(Failure::input(
            file,
            format!("{found}; {}", expected_instead_of(&sections.keys, options)),
        ));
    };
    if let Some(error) = trailing {
        let (line, column) = (error.line(), error.column());
        let problem =
            format!("line {line} column {column}: found more text after the object, {EXPECTED_FORM}");
        return Err(Failure::input(file, problem));
    }
    Ok(Dataset {
        file: file.to_owned(),
        mode: sections.mode,
        queries,
        corpus,
        relevant_docs,
        negative_docs: sections.negative_docs,
        query_embeddings: sections.query_embeddings,
        corpus_embeddings: sections.corpus_embeddings,
    })
}

/// What was found in a file, before it is known to be complete.
#[derive(Default)]
struct Sections {
    keys: Vec<String>,
    mode: Option<String>,
    queries: Option<Texts>,
    corpus: Option<Texts>,
    relevant_docs: Option<Labels>,
    negative_docs: Option<Labels>,
    query_embeddings: Option<Vectors>,
    corpus_embeddings: Option<Vectors>,
}

struct FileVisitor<'a> {
    file: &'a Path,
    place: &'a Place,
    holding: Holding<'a>,
}

impl<'de> Visitor<'de> for FileVisitor<'_> {
    type Value = Sections;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(EXPECTED_FORM.trim_start_matches("expected "))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Sections, A::Error> {
        let mut sections = Sections::default();
        let mut known = Ids::default();
        while let Some(key) = map.next_key::<String>()? {
            let section = match key.as_str() {
                "mode" => "mode",
                "queries" => "queries",
                "corpus" => "corpus",
                "relevant_docs" => "relevant_docs",
                "negative_docs" => "negative_docs",
                "query_embeddings" => "query_embeddings",
                "corpus_embeddings" => "corpus_embeddings",
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    sections.keys.push(key);
                    continue;
                }
            };
            if known.push(section).is_err() {
                return Err(de::Error::custom(format!("the key {section:?} stands here twice; keep one")));
            }
            sections.keys.push(section.to_owned());
            self.place.enter_section(section);
            match section {
                "mode" => sections.mode = map.next_value()?,
                "queries" => {
                    // As the labels have them, where those stand first.
                    let texts =
                        sections.relevant_docs.as_ref().map(|labels| Texts::expecting(&labels.queries));
                    let texts = texts.unwrap_or_else(|| self.holding.queries());
                    sections.queries = Some(self.read(&mut map, self.text_entries(texts))?.texts);
                }
                "corpus" => {
                    let texts = self.text_entries(self.holding.corpus());
                    sections.corpus = Some(self.read(&mut map, texts)?.texts);
                }
                "relevant_docs" => {
                    let labels = self.label_entries(&sections);
                    sections.relevant_docs = Some(self.read(&mut map, labels)?.labels);
                }
                "negative_docs" => {
                    let labels = self.label_entries(&sections);
                    sections.negative_docs = self.read_optional(&mut map, labels)?.map(|e| e.labels);
                }
                "query_embeddings" => sections.query_embeddings = self.read_vectors(&mut map, section)?,
                _ => sections.corpus_embeddings = self.read_vectors(&mut map, section)?,
            }
            self.place.enter_section("");
        }
        Ok(sections)
    }
}

impl FileVisitor<'_> {
    fn text_entries(&self, texts: Texts) -> TextEntries<'_> {
        TextEntries { texts, keep: self.holding.texts }
    }

    /// Labels whose ids may be those of the queries and documents, in the same order.
    fn label_entries(&self, sections: &Sections) -> LabelEntries {
        let expected = |texts: &Option<Texts>, held: Texts| {
            Ids::expecting(texts.as_ref().map_or(&held.ids, |texts| &texts.ids))
        };
        let queries = expected(&sections.queries, self.holding.queries());
        let documents = expected(&sections.corpus, self.holding.corpus());
        LabelEntries { labels: Labels { queries, documents, ..Labels::default() } }
    }

    fn read<'de, A: MapAccess<'de>, E: Entries>(&self, map: &mut A, entries: E) -> Result<E, A::Error> {
        map.next_value_seed(EntriesSeed { entries, place: self.place })
    }

    fn read_optional<'de, A: MapAccess<'de>, E: Entries>(
        &self,
        map: &mut A,
        entries: E,
    ) -> Result<Option<E>, A::Error> {
        map.next_value_seed(OptionalSeed(EntriesSeed { entries, place: self.place }))
    }

    fn read_vectors<'de, A: MapAccess<'de>>(
        &self,
        map: &mut A,
        section: &str,
    ) -> Result<Option<Vectors>, A::Error> {
        let source = format!("{section} of {}", self.file.display());
        let entries = self.read_optional(map, VectorEntries::default())?;
        Ok(entries.map(|entries| Vectors::from_rows(source, entries.ids, entries.dim, entries.components)))
    }
}
#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::dataset::Purpose;
    use crate::texts::TextKey;
    use crate::vectors::Embeddings;

    /// The documents of a query with their grades.
    fn listed(labels: &Labels, query: &str) -> Vec<(String, f64)> {
        labels
            .of(query)
            .iter()
            .map(|label| (labels.documents[label.document].to_owned(), label.grade))
            .collect()
    }

    #[test]
    fn without_texts_there_are_their_keys() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("train.json");
        std::fs::write(&file, SMALL).expect("written");
        let (with, without) = (Dataset::load(&file), Dataset::load_without_texts(&file));
        let (with, without) = (with.expect("read").corpus, without.expect("read").corpus);
        assert_eq!(with.keys, without.keys);
        assert_eq!((with.texts().len(), without.texts().len()), (with.ids.len(), 0));
        assert!(with.texts().zip(&with.keys).all(|(text, key)| crate::texts::TextKey::of(text) == *key));
    }

    #[test]
    fn of_the_texts_those_that_are_wanted_can_be_kept() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("train.json");
        std::fs::write(&file, SMALL).expect("written");
        let wanted = ["how often?", "In the shed.", "not there"].map(TextKey::of);
        let dataset = Dataset::read_with_texts(
            &file,
            &HashSet::from(wanted),
            &ReadingOptions::default(),
            Purpose::Test,
        )
        .expect("read");
        assert_eq!(dataset.queries.texts().collect::<Vec<_>>(), ["", "how often?"]);
        assert_eq!(dataset.corpus.texts().collect::<Vec<_>>(), ["", "In the shed.", ""]);
        assert_eq!(dataset.corpus.keys, Dataset::load(&file).expect("read").corpus.keys);
    }

    const SMALL: &str = r#"{
        "queries": {"q2": "where is it kept?", "q1": "how often?"},
        "corpus": {"d2": "Once a week.", "d1": "In the shed.", "d3": ""},
        "relevant_docs": {"q2": ["d1"], "q1": ["d2", "d1"]}
    }"#;

    fn parse(text: &str) -> Result<Dataset, Failure> {
        Dataset::parse(Path::new("train.json"), text.as_bytes())
    }

    /// The message without the name of the file.
    fn refusal(text: &str) -> String {
        let message = crate::failure::refusal(parse(text));
        message.strip_prefix("train.json: ").expect("the file is named").to_owned()
    }

    /// [`SMALL`] with more members.
    fn small_with(members: &str) -> String {
        format!("{}, {members}}}", SMALL.strip_suffix('}').expect("an object"))
    }

    fn with_labels(labels: &str) -> String {
        format!(r#"{{"queries": {{"q": "a"}}, "corpus": {{"d": "b"}}, "relevant_docs": {{"q": {labels}}}}}"#)
    }

    fn labels(text: &str) -> Vec<(String, f64)> {
        let dataset = parse(&with_labels(text)).expect(text);
        listed(&dataset.relevant_docs, "q")
    }

    fn vectors(text: &str) -> Vectors {
        let dataset = parse(&small_with(&format!(r#""query_embeddings": {text}"#))).expect(text);
        dataset.query_embeddings.expect("vectors")
    }

    fn vectors_refusal(text: &str) -> String {
        refusal(&small_with(&format!(r#""query_embeddings": {text}"#)))
    }

    #[test]
    fn every_list_keeps_the_order_of_the_file() {
        let dataset = parse(SMALL).expect("read");
        let ids = |ids: &Ids| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(ids(&dataset.queries.ids), ["q2", "q1"]);
        assert_eq!(ids(&dataset.corpus.ids), ["d2", "d1", "d3"]);
        assert_eq!(dataset.corpus.text(1), Some("In the shed."));
        assert_eq!(ids(&dataset.relevant_docs.queries), ["q2", "q1"]);
        assert_eq!(listed(&dataset.relevant_docs, "q1"), [("d2".to_owned(), 1.0), ("d1".to_owned(), 1.0)]);
        assert!(listed(&dataset.relevant_docs, "q3").is_empty());
        assert_eq!(dataset.mode, None);
        assert!(dataset.negative_docs.is_none() && dataset.query_embeddings.is_none());
    }

    #[test]
    fn ids_in_one_order_are_held_once_wherever_the_labels_stand() {
        let labels = r#""relevant_docs": {"q2": ["d2"], "q1": ["d1"]}"#;
        let negatives = r#""negative_docs": {"q2": ["d1"]}"#;
        let texts = r#""queries": {"q2": "", "q1": ""}, "corpus": {"d2": "", "d1": "", "d3": ""}"#;
        for text in
            [format!("{{{texts}, {labels}, {negatives}}}"), format!("{{{labels}, {negatives}, {texts}}}")]
        {
            let Dataset { queries, corpus, relevant_docs, negative_docs, .. } = parse(&text).expect("read");
            assert!(queries.ids.shares_with(&relevant_docs.queries), "{text}");
            assert_eq!(
                relevant_docs.documents.shares_with(&corpus.ids),
                text.starts_with("{\"queries"),
                "{text}"
            );
            let negative_docs = negative_docs.expect("negatives");
            assert_eq!(negative_docs.queries.iter().collect::<Vec<_>>(), ["q2"]);
            assert_eq!(negative_docs.documents.iter().collect::<Vec<_>>(), ["d1"]);
        }
    }

    #[test]
    fn vectors_in_one_order_with_the_data_set_hold_its_ids_and_others_change_nothing() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("train.json");
        std::fs::write(&file, SMALL).expect("written");
        let vectors = |ids: &[&str]| {
            let mut all = Ids::default();
            ids.iter().for_each(|id| assert!(all.push(id).is_ok()));
            Arc::new(Vectors::from_rows(String::new(), all, 1, vec![1.0; ids.len()]))
        };
        let alone = Dataset::load_without_texts(&file).expect("read");
        for (queries, corpus, shared) in
            [(["q2", "q1", "q3"], ["d2", "d1", "d3"], true), (["q1", "q2", "q3"], ["d2", "d3", "d1"], false)]
        {
            let vectors = Embeddings { queries: vectors(&queries), corpus: vectors(&corpus) };
            let read = Dataset::read_to_join(&file, &ReadingOptions::default(), Purpose::Test, &vectors);
            let read = read.expect("read");
            assert_eq!(format!("{read:?}"), format!("{alone:?}"));
            assert_eq!(read.queries.ids.shares_with(vectors.queries.ids()), shared);
            assert_eq!(read.corpus.ids.shares_with(vectors.corpus.ids()), shared);
            assert!(read.relevant_docs.queries.shares_with(&read.queries.ids));
        }
    }

    #[test]
    fn a_byte_order_mark_and_carriage_returns_change_nothing() {
        let windows = format!("\u{feff}{}", SMALL.replace('\n', "\r\n"));
        assert_eq!(format!("{:?}", parse(&windows)), format!("{:?}", parse(SMALL)));
    }

    #[test]
    fn unknown_keys_are_ignored_however_deep_and_null_means_absent() {
        let deep = "[".repeat(20_000) + &"]".repeat(20_000);
        let text = small_with(&format!(
            r#""reference_answers": {deep}, "mode": null, "negative_docs": null, "corpus_embeddings": null"#
        ));
        let dataset = parse(&text).expect("read");
        assert!(
            dataset.mode.is_none() && dataset.negative_docs.is_none() && dataset.corpus_embeddings.is_none()
        );
    }

    #[test]
    fn mode_and_negatives_are_kept() {
        let dataset = parse(&small_with(r#""mode": "text", "negative_docs": {"q1": ["d3"]}"#)).expect("read");
        assert_eq!(dataset.mode.as_deref(), Some("text"));
        let negatives = dataset.negative_docs.expect("negatives");
        assert_eq!(listed(&negatives, "q1"), [("d3".to_owned(), 1.0)]);
    }

    #[test]
    fn labels_may_be_a_list_one_id_integers_or_graded() {
        assert_eq!(labels(r#"["d", 7, "d"]"#), [("d".into(), 1.0), ("7".into(), 1.0), ("d".into(), 1.0)]);
        assert_eq!(labels(r#""77""#), [("77".into(), 1.0)]);
        assert_eq!(labels("7"), [("7".into(), 1.0)]);
        assert_eq!(labels("-7"), [("-7".into(), 1.0)]);
        assert_eq!(labels("[]"), []);
        let graded = [("7".into(), 2.0), ("8".into(), 0.0), ("9".into(), -1.0), ("d".into(), 0.5)];
        assert_eq!(labels(r#"{"7": 2, "8": 0, "9": -1, "d": 0.5}"#), graded);
    }

    #[test]
    fn labels_of_another_form_are_refused_by_query_and_item() {
        for (labels, expected) in [
            ("null", r#"relevant_docs "q": found null, expected a list of document ids"#),
            ("[\"d\", null]", r#"relevant_docs "q" item 1: found null, expected an id"#),
            ("[[\"d\"]]", r#"relevant_docs "q" item 0: found sequence, expected an id"#),
            ("7.5", r#"relevant_docs "q": found floating point `7.5`, expected a list of document ids"#),
            (
                r#"{"d": "2"}"#,
                r#"relevant_docs "q": found string "2", expected a number as the grade of "d""#,
            ),
            (r#"{"d": 1, "d": 2}"#, r#"the document "d" is graded twice"#),
            (r#"{"d": 1e300}"#, r#"as the grade of "d", expected at most 1000000000"#),
        ] {
            let message = refusal(&with_labels(labels));
            assert!(message.starts_with("line 1 column ") && message.contains(expected), "{message}");
        }
    }

    #[test]
    fn an_id_that_stands_twice_in_a_section_is_refused_by_name() {
        for (text, section) in [
            (SMALL.replace(r#""q1": "how"#, r#""q2": "how"#), r#"queries "q2""#),
            (SMALL.replace(r#""d3""#, r#""d2""#), r#"corpus "d2""#),
            (SMALL.replace(r#""q1": ["#, r#""q2": ["#), r#"relevant_docs "q2""#),
            (small_with(r#""query_embeddings": {"q1": [1], "q1": [9]}"#), r#"query_embeddings "q1""#),
            (small_with(r#""corpus_embeddings": {"d1": [1], "d1": [9]}"#), r#"corpus_embeddings "d1""#),
            (small_with(r#""negative_docs": {"q1": [], "q1": []}"#), r#"negative_docs "q1""#),
        ] {
            let message = refusal(&text);
            assert!(
                message.contains(&format!("{section}: this id stands in the section twice")),
                "{message}"
            );
            assert!(message.contains("(it was entry 1 already); keep one of the two"), "{message}");
        }
        let message = refusal(&small_with(r#""corpus": {}"#));
        assert!(message.contains(r#"the key "corpus" stands here twice"#), "{message}");
    }

    #[test]
    fn look_alike_ids_are_different_ids() {
        let text =
            r#"{"queries": {"café": "a", "cafe+": "b"}, "corpus": {" d": "", "d": ""}, "relevant_docs": {}}"#;
        // The same letter in one code point and in two.
        let text = text.replace('+', "\u{301}");
        let dataset = parse(&text).expect("read");
        assert_eq!((dataset.queries.ids.len(), dataset.corpus.ids.len()), (2, 2));
    }

    #[test]
    fn a_missing_or_wrong_section_is_explained_by_the_expected_form() {
        assert!(refusal("{}").starts_with(&format!("found an empty object; {EXPECTED_FORM}")));
        let message = refusal(r#"{"queries": {}, "documents": {}, "relevant_docs": {}}"#);
        assert!(
            message.contains(r#"the keys "queries", "documents", "relevant_docs"; expected one"#),
            "{message}"
        );
        let message = refusal(r#"{"queries": ["a"], "corpus": {}, "relevant_docs": {}}"#);
        assert!(message.contains("queries: found sequence, expected an object {id: text}"), "{message}");
        let message = refusal(&SMALL.replace(r#""Once a week.""#, "null"));
        assert!(message.contains(r#"corpus "d2": found null, expected a string"#), "{message}");
        for text in ["null", "7", "\"queries\""] {
            assert!(refusal(text).contains(EXPECTED_FORM), "{text}");
        }
    }

    #[test]
    fn rows_of_unknown_keys_are_explained() {
        let row = r#"{"part": "x", "prompt": "y"}"#;
        let keys = r#"the keys "part", "prompt""#;
        let rows = "or rows with a query and a document, whose keys --query-key and --document-key name";
        for (text, found) in [
            (
                format!("{row}\n{row}\n"),
                format!("this looks like JSON Lines rows with {keys}; expected one object"),
            ),
            (row.to_owned(), format!("found an object with {keys}; expected one object")),
            (format!("[{row}, {row}]"), format!("found a list of rows with {keys}; expected one object")),
            ("[]".to_owned(), "found sequence, expected one object".to_owned()),
        ] {
            let message = refusal(&text);
            assert!(message.contains(&found), "{message}");
            assert!(text == "[]" || message.ends_with(rows), "{message}");
        }
    }

    #[test]
    fn a_part_of_a_data_set_is_called_so() {
        for (text, expected) in [
            (
                r#"{"_id": "1", "text": "a"}"#,
                "the texts alone; give the folder that has queries, corpus and labels",
            ),
            (r#"{"id": "1", "embedding": [1]}"#, "vectors alone; give the file with the texts here"),
        ] {
            let message = refusal(text);
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn damaged_files_are_refused_with_their_place() {
        for (text, expected) in [
            (String::new(), "the file is empty"),
            ("[".repeat(20_000), "found sequence, expected one object"),
            ("{\"a\": ".repeat(20_000), "the file ends in the middle of a value"),
            (SMALL.replace("often?\"}", "often?\"},"), "key must be a string"),
            (format!("{SMALL}\n]"), "line 6 column 1: found more text after the object"),
            (format!("{SMALL}{SMALL}"), "line 5 column 6: found more text after the object"),
            (SMALL.replace("how often", "how\toften"), "queries \"q1\": control character"),
        ] {
            let message = refusal(&text);
            assert!(message.contains(expected), "expected {expected:?}: {message}");
        }
    }

    #[test]
    fn a_file_cut_off_anywhere_is_refused() {
        let text = small_with(r#""mode": "text", "query_embeddings": {"q1": [0.5, -1e-3], "q2": [1, 2]}"#);
        for end in 0..text.len() {
            let message = refusal(&text[..end]);
            assert!(
                message.contains("the file ends in the middle of a value") || end == 0,
                "{end}: {message}"
            );
        }
    }

    #[test]
    fn components_keep_their_bits() {
        let vectors = vectors(r#"{"q1": [1e-45, 0.8, -0.0, 1e-50, 3.4028235e38, 16777217, -1, -0]}"#);
        let bits: Vec<u32> = vectors.row(0).iter().map(|value| value.to_bits()).collect();
        // 16777217 = 2²⁴ + 1 is halfway: to even.
        assert_eq!(
            bits,
            [1, 0x3f4c_cccd, 0x8000_0000, 0, 0x7f7f_ffff, 0x4b80_0000, 0xbf80_0000, 0x8000_0000]
        );
    }

    #[test]
    fn components_are_rounded_once() {
        // Just above halfway between 1 and its successor; rounding to f64 first would make it halfway and
        // lose it.
        let vectors = vectors(r#"{"q1": [1.00000005960464477539062500000000000001]}"#);
        assert_eq!(vectors.row(0)[0].to_bits(), 0x3f80_0001);
    }

    #[test]
    fn vectors_that_are_no_list_of_finite_numbers_are_refused_by_id_and_component() {
        for (vector, expected) in [
            ("[0.1, NaN, 0.2]", r#"query_embeddings "q2" component 1: found NaN, expected a finite number"#),
            ("[0.1, Infinity, 0.2]", r#""q2" component 1: found Infinity, expected a finite number"#),
            ("[0.1, -Infinity, 0.2]", r#""q2" component 1: found -Infinity, expected a finite number"#),
            ("[0.1, \"NaN\", 0.2]", r#""q2" component 1: found string "NaN", expected a finite number"#),
            ("[0.1, 1e39, 0.2]", r#""q2" component 1: 1e39 does not fit in a 32-bit float"#),
            ("[0.1, null, 0.2]", r#""q2" component 1: found null, expected a finite number"#),
            ("[[0.1, 0.2, 0.3]]", r#""q2" component 0: found sequence, expected a finite number"#),
            ("null", r#""q2": found null, expected a list of numbers"#),
            ("\"AAAAAA==\"", r#""q2": found string "AAAAAA==", expected a list of numbers"#),
            ("[]", r#""q2": the vector is empty, expected numbers"#),
            ("[0.1, 0.2]", r#""q2": the vector has 2 components, expected 3 as "q1" has"#),
            ("[0.1, 0.2, 0.3, 0.4]", r#""q2": the vector has 4 components, expected 3 as "q1" has"#),
        ] {
            let message = vectors_refusal(&format!(r#"{{"q1": [1, 2, 3], "q2": {vector}}}"#));
            assert!(message.starts_with("line ") && message.contains(expected), "{message}");
        }
    }

    #[test]
    fn vectors_know_where_they_stand() {
        let vectors = vectors(r#"{"q2": [1, 2], "q1": [3, 4]}"#);
        assert_eq!((vectors.len(), vectors.dim(), vectors.id(1)), (2, 2, "q1"));
        assert_eq!(vectors.index_of("q1"), Some(1));
        assert_eq!(vectors.row(1), [3.0, 4.0]);
        assert_eq!(vectors.source(), "query_embeddings of train.json");
    }

    proptest! {
        #[test]
        fn every_f32_survives_being_written_and_read(bits in any::<u32>()) {
            let value = f32::from_bits(bits);
            prop_assume!(value.is_finite());
            let vectors = vectors(&format!(r#"{{"q1": [{value:e}, {value}]}}"#));
            prop_assert_eq!(vectors.row(0)[0].to_bits(), bits);
            prop_assert_eq!(vectors.row(0)[1].to_bits(), bits);
        }

        #[test]
        fn any_decimal_is_read_as_the_nearest_f32(digits in "[1-9][0-9]{0,30}", exponent in -60_i32..20) {
            let text = format!("{digits}e{exponent}");
            let nearest: f32 = text.parse().expect("a number");
            prop_assume!(nearest.is_finite());
            let vectors = vectors(&format!(r#"{{"q1": [{text}]}}"#));
            prop_assert_eq!(vectors.row(0)[0].to_bits(), nearest.to_bits());
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Dataset::parse(Path::new("train.json"), &bytes);
        }

        #[test]
        fn no_damage_to_a_good_file_makes_the_reader_panic(position in 0_usize..300, byte in any::<u8>()) {
            let mut bytes = small_with(r#""query_embeddings": {"q1": [0.5, 1e3]}, "negative_docs": {"q1": {"d1": 1}}"#)
                .into_bytes();
            let position = position % bytes.len();
            bytes[position] = byte;
            if let Err(failure) = Dataset::parse(Path::new("train.json"), &bytes) {
                prop_assert!(!failure.to_string().contains('\n'), "{}", failure);
            }
        }
    }
}
