//! What tells one task from another, without holding either.

use core::hash::Hasher as _;

use serde::{Deserialize, Serialize};
use siphasher::sip128::{Hasher128 as _, SipHasher24};

use super::RetrievalTask;

/// 128 bits of SipHash-2-4 for each kind of thing that a fit reads of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    queries: u128,
    documents: u128,
    labels: u128,
    vectors: u128,
}

impl Fingerprint {
    /// What differs between two tasks; none where a fit would not know them apart.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Option<&'static str> {
        [
            ("queries", self.queries == other.queries),
            ("documents", self.documents == other.documents),
            ("labels", self.labels == other.labels),
            ("vectors", self.vectors == other.vectors),
        ]
        .into_iter()
        .find_map(|(name, same)| (!same).then_some(name))
    }
}

impl RetrievalTask {
    /// The fingerprint of queries, documents, labels and vectors, in their order.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let [mut queries, mut documents, mut labels, mut vectors] = [(); 4].map(|()| SipHasher24::new());
        let text = |hasher: &mut SipHasher24, id: &str, key: u128| {
            hasher.write(&(id.len() as u64).to_le_bytes());
            hasher.write(id.as_bytes());
            hasher.write(&key.to_le_bytes());
        };
        for (index, query) in self.queries().iter().enumerate() {
            text(&mut queries, query.id, query.text.bits());
            labels.write(&(query.positives.len() as u64).to_le_bytes());
            for positive in query.positives.iter() {
                labels.write(&positive.document.to_le_bytes());
                labels.write(&positive.grade.to_le_bytes());
            }
            labels.write(&(query.negatives.len() as u64).to_le_bytes());
            for negative in query.negatives {
                labels.write(&negative.to_le_bytes());
            }
            vectors.write(bytemuck::cast_slice(self.query_vector(index)));
        }
        let corpus = self.corpus();
        for document in (0..).take(corpus.len()) {
            text(&mut documents, corpus.id(document), corpus.text(document).bits());
            vectors.write(bytemuck::cast_slice(corpus.vector(document)));
        }
        let [queries, documents, labels, vectors] =
            [queries, documents, labels, vectors].map(|hasher| hasher.finish128().as_u128());
        Fingerprint { queries, documents, labels, vectors }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Dataset;

    fn fingerprint(text: &str) -> Fingerprint {
        let dataset = Dataset::parse("x.json".as_ref(), text.as_bytes()).expect("read");
        RetrievalTask::join(dataset, None).expect("joined").fingerprint()
    }

    #[test]
    fn each_kind_of_change_is_found_by_its_name() {
        let text = r#"{"queries": {"q1": "one", "q2": "two"}, "corpus": {"d1": "eins", "d2": "zwei"},
            "relevant_docs": {"q1": ["d1"], "q2": ["d2"]}, "negative_docs": {"q1": ["d2"]},
            "query_embeddings": {"q1": [1, 0], "q2": [0, 1]}, "corpus_embeddings": {"d1": [1, 0], "d2": [0, 1]}}"#;
        let whole = fingerprint(text);
        assert_eq!(whole.difference(&fingerprint(text)), None);
        for (from, to, expected) in [
            ("\"two\"", "\"too\"", "queries"),
            ("zwei", "drei", "documents"),
            ("\"q2\": [\"d2\"]", "\"q2\": [\"d1\"]", "labels"),
            ("\"negative_docs\": {\"q1\": [\"d2\"]}", "\"negative_docs\": {}", "labels"),
            ("\"d2\": [0, 1]", "\"d2\": [0, 1.5]", "vectors"),
            ("\"q2\": [0, 1]", "\"q2\": [0, -1]", "vectors"),
        ] {
            assert!(text.contains(from), "{from}");
            assert_eq!(whole.difference(&fingerprint(&text.replace(from, to))), Some(expected), "{to}");
        }
        // The same texts under other ids.
        assert_eq!(whole.difference(&fingerprint(&text.replace("q2", "q3"))), Some("queries"));
    }
}
