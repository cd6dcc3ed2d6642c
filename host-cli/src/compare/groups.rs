//! Groups of queries that are looked at apart.

use std::path::Path;

use serde_json::Value;

use crate::contents::Contents;
use crate::failure::Failure;
use crate::ids::Ids;
use crate::json::{Entries, quoted};

/// Names of the groups that no file has to name.
pub(super) const ALL: &str = "all";
pub(super) const WITHOUT: &str = "without a group";
pub(super) const SEEN: &str = "answers seen in training";
pub(super) const UNSEEN: &str = "answers unseen";
const BUILT_IN: [&str; 4] = [ALL, WITHOUT, SEEN, UNSEEN];

/// Queries that are shown together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) name: String,
    /// Places among the queries that are compared, ascending, at least one.
    pub(super) queries: Vec<usize>,
}

impl Group {
    /// The places for which `is_in` holds; none where there are none.
    pub(super) fn of(name: &str, queries: usize, is_in: impl Fn(usize) -> bool) -> Option<Self> {
        let queries: Vec<usize> = (0..queries).filter(|&query| is_in(query)).collect();
        (!queries.is_empty()).then(|| Self { name: name.to_owned(), queries })
    }
}

/// Which group a query is in, as a file says it.
#[derive(Debug)]
pub(super) struct GroupFile {
    queries: Ids,
    names: Ids,
    /// For each query its group.
    groups: Vec<u32>,
}

/// What the file looks like.
const EXPECTED: &str = "a JSON object {query id: group}, or lines of a query id, a tab and a group";

impl GroupFile {
    /// Reads a JSON object from query id to group, or lines of both with a tab between them.
    ///
    /// # Errors
    ///
    /// [`Failure::Input`] when the file cannot be read, is of neither form, puts a query in two groups, or calls a group as one that is
    /// not from the file.
    pub(super) fn load(file: &Path) -> Result<Self, Failure> {
        Self::parse(file, &Contents::of(file)?)
    }

    fn parse(file: &Path, bytes: &[u8]) -> Result<Self, Failure> {
        let refused = |problem: String| Failure::input(file, problem);
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let text = core::str::from_utf8(bytes)
            .map_err(|_| refused("the text is not UTF-8; save it again as UTF-8".to_owned()))?;
        let mut read = Self { queries: Ids::default(), names: Ids::default(), groups: Vec::new() };
        if text.trim_start().starts_with('{') {
            let Entries(entries) = serde_json::from_str(text)
                .map_err(|error| refused(format!("{error}; expected {EXPECTED}")))?;
            for (query, group) in &entries {
                let Value::String(group) = group else {
                    return Err(refused(format!("{}: expected the name of a group", quoted(query))));
                };
                read.add(query, group).map_err(refused)?;
            }
        } else {
            for (number, line) in (1_usize..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
                let refused = |problem: String| refused(format!("line {number}: {problem}"));
                let [query, group] = line.split('\t').collect::<Vec<_>>()[..] else {
                    let found = line.split('\t').count();
                    return Err(refused(format!("found {found} columns, expected {EXPECTED}")));
                };
                // An id is taken byte for byte, as everywhere.
                read.add(query, group.trim()).map_err(refused)?;
            }
        }
        if read.groups.is_empty() {
            return Err(refused(format!("there is no query in it, expected {EXPECTED}")));
        }
        Ok(read)
    }

    fn add(&mut self, query: &str, group: &str) -> Result<(), String> {
        if group.is_empty() {
            return Err(format!("the group of {} is empty", quoted(query)));
        }
        if BUILT_IN.contains(&group.trim()) {
            return Err(format!(
                "the group of {} is called {}, as one that compare itself shows; give it another name",
                quoted(query),
                quoted(group.trim())
            ));
        }
        let group = self.names.intern(group).map_err(|error| error.to_string())?;
        match self.queries.push(query) {
            Ok(_) => self.groups.push(group),
            Err(_) => return Err(format!("the query {} is there twice", quoted(query))),
        }
        Ok(())
    }

    /// The group of a query.
    pub(super) fn of(&self, query: &str) -> Option<&str> {
        self.names.get(self.groups[self.queries.index_of(query)? as usize])
    }

    /// The groups of these queries, in the order of the file, and those without one last.
    ///
    /// # Errors
    ///
    /// [`Failure::Input`] when none of the queries is in the file.
    pub(super) fn groups(&self, file: &Path, queries: &Ids) -> Result<Vec<Group>, Failure> {
        let of: Vec<Option<&str>> = queries.iter().map(|query| self.of(query)).collect();
        if of.iter().all(Option::is_none) {
            let first = queries.iter().next().map_or_else(|| "none".to_owned(), quoted);
            let problem = format!(
                "none of the queries is in it (the first is {first}); check that the ids are the same"
            );
            return Err(Failure::input(file, problem));
        }
        let named =
            self.names.iter().filter_map(|name| Group::of(name, of.len(), |query| of[query] == Some(name)));
        let rest = Group::of(WITHOUT, of.len(), |query| of[query].is_none());
        Ok(named.chain(rest).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<(String, Vec<usize>)>, String> {
        let file = Path::new("g");
        let mut queries = Ids::default();
        for query in ["a", "b b", "c"] {
            queries.push(query).expect("new");
        }
        let groups = GroupFile::parse(file, text.as_bytes()).and_then(|read| read.groups(file, &queries));
        let groups = groups.map_err(|failure| failure.to_string())?;
        Ok(groups.into_iter().map(|group| (group.name, group.queries)).collect())
    }

    #[test]
    fn groups_come_in_the_order_of_the_file_and_the_rest_last() {
        let expected = Ok(vec![
            ("long".to_owned(), vec![1]),
            ("short".to_owned(), vec![0]),
            ("without a group".to_owned(), vec![2]),
        ]);
        assert_eq!(read("\u{feff}b b\tlong\r\n\r\nother\tshort\na\tshort\n"), expected);
        assert_eq!(read(r#"{"b b": "long", "a": "short", "other": "else"}"#), expected);
        assert_eq!(read("a\tx\nb b\tx\nc\tx\n"), Ok(vec![("x".to_owned(), vec![0, 1, 2])]));
    }

    #[test]
    fn ids_are_taken_byte_for_byte_in_both_forms() {
        let expected = Ok(vec![("x".to_owned(), vec![0]), ("without a group".to_owned(), vec![1, 2])]);
        assert_eq!(read("a\t x \n c \ty\r"), expected);
        assert_eq!(read("{\"a\": \"x\", \" c \": \"y\"}"), expected);
    }

    #[test]
    fn what_is_no_list_of_groups_is_refused() {
        for (text, part) in [
            ("", "there is no query in it"),
            ("{}", "there is no query in it"),
            ("a x\n", "line 1: found 1 columns"),
            ("a\tx\na\ty\n", "line 2: the query \"a\" is there twice"),
            ("a\t\n", "line 1: the group of \"a\" is empty"),
            ("z\tx\n a\tx\n", "none of the queries is in it (the first is \"a\")"),
            (
                "a\tx\nc\t all \r\n",
                "line 2: the group of \"c\" is called \"all\", as one that compare itself shows",
            ),
            ("a\twithout a group\n", "line 1: the group of \"a\" is called \"without a group\""),
            ("a\tanswers seen in training\n", "line 1: the group of \"a\" is called"),
            ("{\"a\": \"answers unseen\"}", "the group of \"a\" is called \"answers unseen\""),
            ("{\"a\": \"x\", \"a\": \"y\"}", "the query \"a\" is there twice"),
            ("{\"a\": 1}", "\"a\": expected the name of a group"),
            ("{\"a\": \"x\"", "expected a JSON object"),
            ("z\tx\n", "none of the queries is in it (the first is \"a\")"),
        ] {
            let message = read(text).expect_err(text);
            assert!(
                message.starts_with("g: ") && message.contains(part) && !message.contains('\n'),
                "{message}"
            );
        }
    }
}
