//! A data set with its labels looked up and its defects counted: all that can be said of it without vectors.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::dataset::{CHECK_LABELS, Dataset, Labels};
use crate::defects::{DefectKind, Defects};
use crate::failure::Failure;
use crate::graded::{GradedLists, Judgement};
use crate::ids::Ids;
use crate::json::quoted;
use crate::lists::Lists;
use crate::texts::{FirstOfText, TextKey, Texts};

/// A data set whose labels are looked up and whose defects are counted.
#[derive(Debug)]
pub struct Judged {
    pub(super) file: PathBuf,
    pub(super) ids: Ids,
    pub(super) texts: Vec<TextKey>,
    /// Of every query, also of those that are left out.
    pub(super) positives: GradedLists,
    pub(super) negatives: Lists<u32>,
    /// The queries that have a relevant document.
    pub(super) chosen: Vec<u32>,
    pub(super) documents: Documents,
    pub(super) defects: Defects,
}

/// The documents without their vectors.
#[derive(Debug)]
pub(super) struct Documents {
    pub(super) ids: Ids,
    pub(super) texts: Vec<TextKey>,
    /// For each document the first one of the same text.
    pub(super) text_groups: Vec<u32>,
}

/// How many there are of what a data set is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Queries with a relevant document.
    pub queries: usize,
    /// Documents.
    pub documents: usize,
    /// Pairs of a query and a document that is relevant to it.
    pub labels: usize,
    /// Pairs of a query and a document that is known not to answer it.
    pub negatives: usize,
}

impl Judged {
    /// Looks the labels up. What vectors the data set has is not looked at.
    ///
    /// # Errors
    ///
    /// [`Failure::Input`] when there are no queries or no documents, or no query has a relevant document.
    pub fn new(dataset: Dataset) -> Result<Self, Failure> {
        let Dataset { file, queries, corpus, relevant_docs, negative_docs, .. } = dataset;
        if queries.ids.is_empty() {
            return Err(Failure::input(&file, "\"queries\" is empty, expected at least one query"));
        }
        if corpus.ids.is_empty() {
            return Err(Failure::input(&file, "\"corpus\" is empty, expected at least one document"));
        }
        let mut defects = Defects::default();
        let documents = Documents::new(corpus, &mut defects);
        let Texts { ids, keys: texts, .. } = queries;
        let relevant = Joined::new(&relevant_docs, &documents.ids);
        for query in relevant_docs.queries.iter().filter(|query| ids.index_of(query).is_none()) {
            defects.add(DefectKind::LabelsOfAbsentQuery, || quoted(query));
        }
        // An entry of `negative_docs` without its query says nothing that is missed.
        let negative = negative_docs.as_ref().map(|labels| Joined::new(labels, &documents.ids));
        let (mut positives, mut negatives) = (GradedLists::default(), Lists::default());
        let mut chosen = Vec::new();
        let mut first_of_text = FirstOfText::default();
        for ((entry, id), &text) in (0..).zip(ids.iter()).zip(&texts) {
            relevant.add_positives(id, &mut positives, &mut defects);
            if positives.open().is_empty() {
                defects.add(DefectKind::QueryWithoutLabels, || quoted(id));
            } else {
                if let Some(negative) = &negative {
                    negative.add_negatives(id, positives.open(), &mut negatives, &mut defects);
                }
                chosen.push(entry);
                if text.is_blank() {
                    defects.add(DefectKind::EmptyQuery, || quoted(id));
                } else {
                    let first = first_of_text.of(&texts, entry);
                    if first != entry {
                        let example = || format!("{} as {}", quoted(id), quoted(&ids[first]));
                        defects.add(DefectKind::RepeatedQueryText, example);
                    }
                }
            }
            positives.close();
            negatives.close();
        }
        require_some(&file, &chosen)?;
        Ok(Self { file, ids, texts, positives, negatives, chosen, documents, defects })
    }

    /// What was found wrong and dropped or kept.
    #[must_use]
    pub fn defects(&self) -> &Defects {
        &self.defects
    }

    /// How many there are of everything.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let of_chosen =
            |count: &dyn Fn(usize) -> usize| self.chosen.iter().map(|&query| count(query as usize)).sum();
        Counts {
            queries: self.chosen.len(),
            documents: self.documents.ids.len(),
            labels: of_chosen(&|query| self.positives.get(query).len()),
            negatives: of_chosen(&|query| self.negatives.get(query).len()),
        }
    }

    /// Ids and texts of the queries that have a relevant document.
    pub fn query_texts(&self) -> impl Iterator<Item = (&str, TextKey)> {
        self.chosen.iter().map(|&query| (&self.ids[query], self.texts[query as usize]))
    }

    /// Ids and texts of the documents.
    pub fn document_texts(&self) -> impl Iterator<Item = (&str, TextKey)> {
        self.documents.ids.iter().zip(self.documents.texts.iter().copied())
    }
}

fn require_some(file: &Path, chosen: &[u32]) -> Result<(), Failure> {
    if chosen.is_empty() {
        let problem = format!(
            "no query has a relevant document in the corpus: nothing to train on or to evaluate; {CHECK_LABELS}"
        );
        return Err(Failure::input(file, problem));
    }
    Ok(())
}

impl Documents {
    fn new(texts: Texts, defects: &mut Defects) -> Self {
        let Texts { ids, keys: texts, .. } = texts;
        let mut text_groups = Vec::with_capacity(texts.len());
        let mut first_of_text = FirstOfText::default();
        for ((document, id), &text) in (0..).zip(ids.iter()).zip(&texts) {
            if text.is_blank() {
                defects.add(DefectKind::EmptyDocument, || quoted(id));
                text_groups.push(document);
            } else {
                let first = first_of_text.of(&texts, document);
                text_groups.push(first);
                if first != document {
                    let example = || format!("{} as {}", quoted(id), quoted(&ids[first]));
                    defects.add(DefectKind::RepeatedDocumentText, example);
                }
            }
        }
        if ids.len() == 1 {
            defects.add(DefectKind::SingleDocument, || quoted(&ids[0]));
        }
        Self { ids, texts, text_groups }
    }
}

/// Lists of documents by query, with the documents looked up in the corpus.
struct Joined<'a> {
    labels: &'a Labels,
    /// For each document that is named, its index in the corpus.
    documents: Vec<Option<u32>>,
}

impl<'a> Joined<'a> {
    fn new(labels: &'a Labels, corpus: &Ids) -> Self {
        Self { labels, documents: labels.documents.iter().map(|id| corpus.index_of(id)).collect() }
    }

    fn document(&self, label: Judgement) -> Option<u32> {
        self.documents[label.document as usize]
    }

    fn example(&self, query: &str, label: Judgement) -> String {
        format!("{} → {}", quoted(query), quoted(&self.labels.documents[label.document]))
    }

    /// Adds the relevant documents of a query to the open list.
    fn add_positives(&self, query: &str, positives: &mut GradedLists, defects: &mut Defects) {
        let labels = self.labels.of(query);
        let mut seen = Seen::new(labels.len());
        for label in labels.iter() {
            let example = || self.example(query, label);
            match self.document(label) {
                None => defects.add(DefectKind::LabelOfAbsentDocument, example),
                Some(document) if !seen.insert(document) => defects.add(DefectKind::RepeatedLabel, example),
                Some(document) if label.grade > 0.0 => {
                    positives.push(Judgement { document, grade: label.grade });
                }
                Some(_) => {}
            }
        }
    }

    /// Adds the documents that are known not to answer a query to the open list.
    fn add_negatives(
        &self,
        query: &str,
        positives: &[u32],
        negatives: &mut Lists<u32>,
        defects: &mut Defects,
    ) {
        let labels = self.labels.of(query);
        let mut seen = Seen::new(labels.len());
        for label in labels.iter() {
            let example = || self.example(query, label);
            match self.document(label) {
                None => defects.add(DefectKind::NegativeOfAbsentDocument, example),
                Some(document) if positives.contains(&document) => {
                    defects.add(DefectKind::NegativeIsRelevant, example);
                }
                Some(document) if !seen.insert(document) => defects.add(DefectKind::RepeatedLabel, example),
                Some(document) => negatives.push(document),
            }
        }
    }
}

/// The documents of one list that were there already; a list of one, the usual case, needs no memory.
struct Seen(Option<HashSet<u32>>);

impl Seen {
    fn new(labels: usize) -> Self {
        Self((labels > 1).then(HashSet::new))
    }

    /// Whether the document is new.
    fn insert(&mut self, document: u32) -> bool {
        self.0.as_mut().is_none_or(|seen| seen.insert(document))
    }
}
