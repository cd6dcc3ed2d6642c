//! The few texts that a page shows, read again from the data set files: training and evaluation keep none.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use unicode_segmentation::UnicodeSegmentation as _;

use crate::dataset::{Dataset, Purpose, ReadingOptions};
use crate::failure::Failure;
use crate::report::is_unseen;
use crate::texts::TextKey;

/// Characters, as people count them, of a query that is shown, of a document, and of an id.
const MOST_OF_QUERY: usize = 220;
const MOST_OF_DOCUMENT: usize = 140;
const MOST_OF_ID: usize = 60;

/// Shortened texts by their keys. Look-ups only.
#[derive(Debug, Default)]
pub(super) struct Excerpts(HashMap<TextKey, String>);

impl Excerpts {
    /// Reads the texts with these keys from data sets, of which each may have some, as `options` say.
    ///
    /// # Errors
    ///
    /// As [`Dataset::read_with_texts`].
    pub(super) fn read(
        datasets: &[(&Path, Purpose)],
        keys: &HashSet<TextKey>,
        options: &ReadingOptions,
    ) -> Result<Self, Failure> {
        let mut excerpts = HashMap::new();
        for &(path, purpose) in datasets {
            let dataset = Dataset::read_with_texts(path, keys, options, purpose)?;
            for (texts, most) in [(&dataset.queries, MOST_OF_QUERY), (&dataset.corpus, MOST_OF_DOCUMENT)] {
                for (key, text) in texts.keys.iter().zip(texts.texts()).filter(|(_, text)| !text.is_empty()) {
                    excerpts.entry(*key).or_insert_with(|| shortened(text, most));
                }
            }
        }
        Ok(Self(excerpts))
    }

    /// The text with this key; empty where there is none.
    pub(super) fn get(&self, key: TextKey) -> &str {
        self.0.get(&key).map_or("", String::as_str)
    }
}

/// An id as a page shows it.
pub(super) fn shown_id(id: &str) -> String {
    shortened(id, MOST_OF_ID)
}

/// The beginning of a text on one line: white space becomes single spaces, what cannot be seen or would turn the writing of
/// the page around becomes �. It is cut between words where one ends near the limit, and never within a character.
fn shortened(text: &str, most: usize) -> String {
    let mut short = String::new();
    let mut length = 0;
    let mut last_space = None;
    let mut graphemes = text.trim().graphemes(true).peekable();
    while let Some(grapheme) = graphemes.next() {
        if grapheme.chars().all(char::is_whitespace) {
            if graphemes.peek().is_some_and(|next| next.chars().all(char::is_whitespace)) {
                continue;
            }
            last_space = Some((short.len(), length));
            short.push(' ');
        } else {
            // A cluster may have thousands of marks.
            short.extend(
                grapheme.chars().take(MOST_IN_CLUSTER).map(|c| if is_unseen(c) { '\u{fffd}' } else { c }),
            );
        }
        length += 1;
        if length == most && graphemes.peek().is_some() {
            if let Some((end, before)) = last_space
                && before * 5 >= most * 4
            {
                short.truncate(end);
            }
            short.truncate(short.trim_end_matches([' ', '.', ',', ';', ':']).len());
            short.push('…');
            break;
        }
    }
    short
}

/// Code points of a character that are shown: more than any writing or emoji needs.
const MOST_IN_CLUSTER: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_ends_after_a_word_and_a_short_one_stays() {
        assert_eq!(shortened("  two \n\t words ", 20), "two words");
        assert_eq!(shortened("twenty characters ok", 20), "twenty characters ok");
        assert_eq!(shortened("twenty characters ok?", 20), "twenty characters…");
        assert_eq!(shortened("twenty, characters. Not", 20), "twenty, characters…");
        // No word ends near the limit.
        assert_eq!(shortened("a bcdefghijklmnopqrstuvwxyz", 20), "a bcdefghijklmnopqrs…");
        assert_eq!(shortened(&"の".repeat(30), 20), format!("{}…", "の".repeat(20)));
        assert_eq!(shortened("", 20), "");
    }

    #[test]
    fn characters_of_many_code_points_stay_whole() {
        let family = "👨\u{200d}👩\u{200d}👧";
        assert_eq!(shortened(&family.repeat(5), 3), format!("{}…", family.repeat(3)));
        assert_eq!(shortened("e\u{301}e\u{301}e\u{301}", 2), "e\u{301}e\u{301}…");
        let tower = format!("a{}", "\u{301}".repeat(1000));
        assert_eq!(shortened(&tower, 10).chars().count(), MOST_IN_CLUSTER);
    }

    #[test]
    fn what_cannot_be_seen_is_seen() {
        assert_eq!(shortened("a\u{0}b\u{202e}c", 10), "a\u{fffd}b\u{fffd}c");
    }
}
