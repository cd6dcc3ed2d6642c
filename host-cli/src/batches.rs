//! The batches of a fit: queries, candidates, targets and masks, in buffers that are filled again and again.

use query_adapter::sample::{Generator, shuffle};
use query_adapter::{
    Batch, Documents, Lanes, Level, Mask, MaskEntry, panels, scratch_len, streaming_scratch_len,
};

use crate::failure::Failure;
use crate::fit::{MOST_POSITIVES, Negatives, Pair, Recipe, Settings};
use crate::lists::Lists;
use crate::precondition::preconditioned_queries;
use crate::ranking::Index;
use crate::retrieval_task::RetrievalTask;
use crate::texts::TextKey;

/// Documents of the corpus that are scored at a time where all of it are negatives: a block of 768 components fits a
/// second-level cache.
const CORPUS_BLOCK: usize = 256;

/// Nearest documents of a query that are looked at for negatives.
const LOOKED_AT: usize = 32;

/// Negatives that are mined for a query, at most, and about how many for all.
pub(crate) const MINED_EACH: usize = 8;
pub(crate) const MINED: usize = 8192;

/// Documents that are sampled beside the positives, at most.
pub(crate) const SAMPLED: usize = 2048;

/// How near a mined negative may be, as a share of the nearest answer's nearness.
const CERTAIN: f64 = 0.95;

/// Fills the buffers of one batch after another; nothing is allocated per step.
pub(crate) struct Batches<'a> {
    task: &'a RetrievalTask,
    index: &'a Index,
    pairs: &'a [Pair],
    settings: &'a Settings,
    answers: Answers,
    pub(crate) negatives: Negatives,
    /// Candidates of a batch, at most.
    pub(crate) most_candidates: usize,
    candidates: Candidates,
    queries: Vec<f32>,
    /// Of all queries of the task, and of those in the batch; empty for first-order steps.
    preconditioned: Vec<f32>,
    operand: Vec<f32>,
    documents: Vec<f32>,
    targets: Vec<u32>,
    weights: Vec<f32>,
    mask: Vec<MaskEntry>,
    scratch: Vec<Lanes>,
}

impl<'a> Batches<'a> {
    pub(crate) fn new(
        task: &'a RetrievalTask,
        index: &'a Index,
        pairs: &'a [Pair],
        settings: &'a Settings,
        batch_size: usize,
        level: Level,
    ) -> Result<Self, Failure> {
        let (dim, corpus) = (task.dim(), task.corpus());
        let mut candidates = Candidates::new(corpus.len());
        for pair in pairs {
            candidates.place_of(pair.document, corpus.text_group(pair.document));
        }
        let known_negatives = settings.recipe == Recipe::Single;
        let negatives = settings.negatives.unwrap_or(match candidates.documents.len() {
            0..=MOST_POSITIVES => Negatives::Positives,
            _ => Negatives::InBatch,
        });
        let mut documents = Vec::new();
        let most_candidates;
        match negatives {
            Negatives::Positives | Negatives::Mined | Negatives::Sampled => {
                if negatives == Negatives::Mined {
                    for document in mined(task, index)? {
                        candidates.place_of(document, corpus.text_group(document));
                    }
                }
                if known_negatives {
                    for &document in task.queries().iter().flat_map(|query| query.negatives) {
                        candidates.place_of(document, corpus.text_group(document));
                    }
                }
                if negatives == Negatives::Sampled {
                    let mut rest: Vec<u32> = (0..).take(corpus.len()).collect();
                    rest.retain(|&document| candidates.places[document as usize] == ABSENT);
                    shuffle(&mut rest, &mut Generator::new(settings.seed));
                    for &document in rest.iter().take(SAMPLED) {
                        candidates.place_of(document, corpus.text_group(document));
                    }
                }
                most_candidates = candidates.documents.len();
                index.documents().gather(&candidates.documents, &mut documents)?;
            }
            Negatives::InBatch => {
                candidates.clear(|document| corpus.text_group(document));
                let most = task.queries().iter().map(|query| query.negatives.len()).max().unwrap_or(0);
                let each = if known_negatives { 1 + most } else { 1 };
                most_candidates = batch_size.saturating_mul(each).min(corpus.len().max(batch_size));
                documents.reserve_exact(most_candidates * dim);
            }
            Negatives::Corpus => {
                candidates.clear(|document| corpus.text_group(document));
                for document in (0..).take(corpus.len()) {
                    candidates.place_of(document, corpus.text_group(document));
                }
                most_candidates = corpus.len();
            }
        }
        let scratch = match negatives {
            Negatives::Corpus => {
                streaming_scratch_len(batch_size, CORPUS_BLOCK.min(most_candidates), dim, dim)
            }
            _ => scratch_len(batch_size, most_candidates, dim, dim),
        };
        let (answers, mut mask) = (Answers::of(task, settings.recipe), Vec::new());
        if settings.recipe == Recipe::Single {
            let most_masked = batch_size.saturating_mul(answers.most_documents(task));
            mask = vec![MaskEntry::default(); most_masked.min(panels(batch_size) * most_candidates)];
        }
        let preconditioned = match settings.precondition {
            Some(damping) => preconditioned_queries(task, damping, level, index.threads())?,
            None => Vec::new(),
        };
        Ok(Self {
            task,
            index,
            pairs,
            settings,
            answers,
            negatives,
            most_candidates,
            candidates,
            queries: Vec::with_capacity(batch_size * dim),
            operand: Vec::with_capacity(if preconditioned.is_empty() { 0 } else { batch_size * dim }),
            preconditioned,
            documents,
            targets: Vec::with_capacity(batch_size),
            weights: Vec::with_capacity(batch_size),
            mask,
            scratch: vec![Lanes::ZERO; scratch],
        })
    }

    /// Bytes of the buffers.
    pub(crate) fn memory(&self) -> u64 {
        let floats = [&self.queries, &self.preconditioned, &self.operand, &self.documents, &self.weights];
        let floats: usize = floats.into_iter().map(Vec::capacity).sum();
        let others = size_of_val(&self.mask[..]) + size_of_val(&self.scratch[..]);
        (floats * size_of::<f32>() + others) as u64
    }

    pub(crate) fn fill(&mut self, chosen: &[u32]) -> Result<(Batch<'_>, &mut [Lanes]), Failure> {
        let corpus = self.task.corpus();
        let dim = self.task.dim();
        self.queries.clear();
        self.operand.clear();
        self.targets.clear();
        self.weights.clear();
        let in_batch = self.negatives == Negatives::InBatch;
        if in_batch {
            self.candidates.clear(|document| corpus.text_group(document));
        }
        for &pair in chosen {
            let pair = self.pairs[pair as usize];
            self.queries.extend_from_slice(self.task.query_vector(pair.query as usize));
            if let Some(row) =
                self.preconditioned.get(pair.query as usize * dim..).and_then(|rows| rows.get(..dim))
            {
                self.operand.extend_from_slice(row);
            }
            self.weights.push(pair.weight(self.task, self.settings.recipe));
            if self.settings.recipe == Recipe::Reference && in_batch {
                // One column per row, also for a document that is there already: a false negative, kept on purpose.
                self.candidates.places[pair.document as usize] = ABSENT;
            }
            self.targets.push(self.candidates.place_of(pair.document, corpus.text_group(pair.document)));
        }
        if in_batch && self.settings.recipe == Recipe::Single {
            for &pair in chosen {
                for &document in self.task.query(self.pairs[pair as usize].query as usize).negatives {
                    self.candidates.place_of(document, corpus.text_group(document));
                }
            }
        }
        if in_batch {
            self.index.documents().gather(&self.candidates.documents, &mut self.documents)?;
        }
        let mut mask = Mask::new(&mut self.mask);
        if self.settings.recipe == Recipe::Single {
            for ((row, &pair), &target) in (0..).zip(chosen).zip(&self.targets) {
                let query = self.pairs[pair as usize].query;
                for &text_group in self.answers.text_groups(self.task, query) {
                    for place in self.candidates.of_text_group(text_group).filter(|&place| place != target) {
                        mask.insert(row, place)?;
                    }
                }
            }
        }
        let used = mask.entries().len();
        let batch = Batch {
            queries: &self.queries,
            gradient_operand: Some(self.operand.as_slice()).filter(|operand| !operand.is_empty()),
            documents: match self.negatives {
                Negatives::Corpus => {
                    Documents::Blocks { source: self.index.documents(), block: CORPUS_BLOCK }
                }
                _ => Documents::Rows(&self.documents),
            },
            targets: &self.targets,
            weights: &self.weights,
            mask: &self.mask[..used],
        };
        Ok((batch, &mut self.scratch))
    }
}

/// For each query the documents nearest to it that do not answer it, but for those nearly as near as the nearest answer:
/// they may be answers that no one has labelled.
fn mined(task: &RetrievalTask, index: &Index) -> Result<Vec<u32>, Failure> {
    let corpus = task.corpus();
    let mut mined = Vec::new();
    let each = (MINED / task.queries().len()).clamp(1, MINED_EACH);
    let (mut vectors, mut documents) = (Vec::new(), Vec::new());
    for (query, nearest) in index.rank_to(LOOKED_AT, task, None)?.into_iter().enumerate() {
        let answers = task.query(query).positives;
        let is_answer = |document: u32| {
            answers.iter().any(|p| corpus.text_group(p.document) == corpus.text_group(document))
        };
        documents.clear();
        documents.extend(answers.iter().map(|p| p.document));
        documents.extend(nearest.into_iter().filter(|&document| !is_answer(document)));
        index.documents().gather(&documents, &mut vectors)?;
        let query = task.query_vector(query);
        let nearness = |vector: &[f32]| -> f64 {
            vector.iter().zip(query).map(|(&d, &q)| f64::from(d) * f64::from(q)).sum()
        };
        let mut near = vectors.chunks_exact(query.len()).map(nearness);
        let answer = near.by_ref().take(answers.len()).fold(f64::NEG_INFINITY, f64::max);
        let others = documents[answers.len()..].iter().zip(near);
        let certain = others.filter(|(_, near)| *near <= CERTAIN * answer);
        mined.extend(certain.map(|(&document, _)| document).take(each));
    }
    Ok(mined)
}

const ABSENT: u32 = u32::MAX;

/// The documents to tell apart in a step, to be found by document and by text group.
struct Candidates {
    documents: Vec<u32>,
    /// For each document of the corpus its place among the candidates, `ABSENT` for none.
    places: Vec<u32>,
    /// For each text group, named by its first document, the place of its last candidate, `ABSENT` for none.
    last_of_text_group: Vec<u32>,
    /// For each candidate the place of the one before it in its text group.
    before: Vec<u32>,
}

impl Candidates {
    fn new(corpus: usize) -> Self {
        Self {
            documents: Vec::new(),
            places: vec![ABSENT; corpus],
            last_of_text_group: vec![ABSENT; corpus],
            before: Vec::new(),
        }
    }

    /// Forgets all candidates.
    fn clear(&mut self, text_group: impl Fn(u32) -> u32) {
        for &document in &self.documents {
            self.places[document as usize] = ABSENT;
            self.last_of_text_group[text_group(document) as usize] = ABSENT;
        }
        self.documents.clear();
        self.before.clear();
    }

    /// The place of a document, which joins the candidates if need be.
    fn place_of(&mut self, document: u32, text_group: u32) -> u32 {
        let place = self.places[document as usize];
        if place != ABSENT {
            return place;
        }
        let place = u32::try_from(self.documents.len()).unwrap_or(ABSENT);
        self.places[document as usize] = place;
        self.documents.push(document);
        self.before.push(core::mem::replace(&mut self.last_of_text_group[text_group as usize], place));
        place
    }

    /// The places of the candidates of a text group, descending.
    fn of_text_group(&self, text_group: u32) -> impl Iterator<Item = u32> + '_ {
        let last = Some(self.last_of_text_group[text_group as usize]);
        let is_place = |place: &u32| *place != ABSENT;
        core::iter::successors(last.filter(is_place), move |&place| {
            Some(self.before[place as usize]).filter(is_place)
        })
    }
}

/// For each query the text groups of its positives and of those of every query with the same text.
#[derive(Default)]
struct Answers {
    /// For each query the number of its list, `ABSENT` where it has one positive and a text of its own; empty where all
    /// have.
    list_of: Vec<u32>,
    /// Text groups, ascending.
    lists: Lists<u32>,
}

impl Answers {
    fn of(task: &RetrievalTask, recipe: Recipe) -> Self {
        if recipe == Recipe::Reference {
            return Self::default();
        }
        // Queries of the same text stand together, in the order of the task; those without a text have nothing in common.
        let text_of = |query: u32| task.query(query as usize).text;
        let mut by_text: Vec<u32> = (0..).take(task.queries().len()).collect();
        by_text.sort_unstable_by_key(|&query| (text_of(query), query));
        let mut answers = Self::default();
        let same = |a: &u32, b: &u32| text_of(*a) == text_of(*b) && text_of(*a) != TextKey::BLANK;
        let documents = |query: u32| task.query(query as usize).positives.documents();
        let mut text_groups = Vec::new();
        for queries in by_text.chunk_by(same) {
            if let [query] = *queries
                && documents(query).len() == 1
            {
                continue;
            }
            answers.list_of.resize(by_text.len(), ABSENT);
            text_groups.clear();
            for &query in queries {
                answers.list_of[query as usize] = u32::try_from(answers.lists.len()).unwrap_or(u32::MAX);
                text_groups.extend(documents(query).iter().map(|&d| task.corpus().text_group(d)));
            }
            text_groups.sort_unstable();
            text_groups.dedup();
            answers.lists.push_list(text_groups.iter().copied());
        }
        answers
    }

    fn text_groups<'a>(&'a self, task: &'a RetrievalTask, query: u32) -> &'a [u32] {
        match self.list_of.get(query as usize) {
            None | Some(&ABSENT) => {
                let document = task.query(query as usize).positives.documents()[0];
                core::slice::from_ref(&task.corpus().text_groups()[document as usize])
            }
            Some(&list) => self.lists.get(list as usize),
        }
    }

    /// The most documents that have the text of an answer to one query.
    fn most_documents(&self, task: &RetrievalTask) -> usize {
        let mut sizes = vec![0_u32; task.corpus().len()];
        for document in (0..).take(task.corpus().len()) {
            sizes[task.corpus().text_group(document) as usize] += 1;
        }
        let documents = |list: &[u32]| list.iter().map(|&group| sizes[group as usize] as usize).sum();
        let queries = (0..).take(task.queries().len());
        queries.map(|query| documents(self.text_groups(task, query))).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::dataset::Dataset;

    /// A task of queries, each with its text and its answers; the documents 0 and 1 have one text.
    fn task(queries: &[(&str, &[u32])]) -> RetrievalTask {
        let object = |entry: &dyn Fn(usize, &str, &[u32]) -> String| {
            let entries = queries.iter().enumerate();
            entries.map(|(at, (text, answers))| entry(at, text, answers)).collect::<Vec<_>>().join(", ")
        };
        let text = format!(
            r#"{{"queries": {{{}}}, "corpus": {{"0": "a", "1": "a", "2": "b", "3": "c"}}, "relevant_docs": {{{}}},
                "query_embeddings": {{{}}}, "corpus_embeddings": {{"0": [1], "1": [2], "2": [3], "3": [4]}}}}"#,
            object(&|at, text, _| format!(r#""q{at}": "{text}""#)),
            object(&|at, _, answers| format!(r#""q{at}": {answers:?}"#)),
            object(&|at, _, _| format!(r#""q{at}": [1]"#)),
        );
        let dataset = Dataset::parse(Path::new("train.json"), text.as_bytes()).expect("read");
        RetrievalTask::join(dataset, None).expect("joined")
    }

    fn text_groups(task: &RetrievalTask) -> (Answers, Vec<Vec<u32>>) {
        let answers = Answers::of(task, Recipe::Single);
        let groups = (0..).take(task.queries().len()).map(|query| answers.text_groups(task, query).to_vec());
        let groups = groups.collect();
        (answers, groups)
    }

    #[test]
    fn answers_are_those_of_all_queries_of_the_text() {
        let queries: [(&str, &[u32]); 5] =
            [("x", &[3]), ("y", &[2, 1, 0]), ("x", &[1]), ("", &[2]), ("", &[3])];
        let task = task(&queries);
        let (answers, groups) = text_groups(&task);
        assert_eq!(groups, [vec![0, 3], vec![0, 2], vec![0, 3], vec![2], vec![3]]);
        assert_eq!(answers.most_documents(&task), 3);
    }

    #[test]
    fn one_answer_each_and_texts_of_their_own_take_no_memory() {
        let task = task(&[("x", &[3]), ("y", &[1]), ("", &[1]), ("", &[1])]);
        let (answers, groups) = text_groups(&task);
        assert_eq!(groups, [[3], [0], [0], [0]]);
        assert_eq!(
            (answers.list_of.capacity(), answers.lists.len(), answers.most_documents(&task)),
            (0, 0, 2)
        );
    }
}
