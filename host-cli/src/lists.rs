//! Many short lists in one buffer.

use crate::ends::Ends;

/// Lists one after the other in one buffer, each under its number.
///
/// A list takes its items and at most 4 bytes: millions of them cost no more than that.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Lists<T> {
    items: Vec<T>,
    /// Where each list ends among the items.
    ends: Ends,
}

impl<T> Default for Lists<T> {
    fn default() -> Self {
        Self { items: Vec::new(), ends: Ends::default() }
    }
}

impl<T> Lists<T> {
    /// Appends an item to the list that [`close`](Self::close) will end.
    pub(crate) fn push(&mut self, item: T) {
        self.items.push(item);
    }

    /// Ends the list; those pushed since the last one was closed are its items.
    pub(crate) fn close(&mut self) {
        self.ends.push(self.items.len());
    }

    /// Appends a list.
    pub(crate) fn push_list(&mut self, items: impl IntoIterator<Item = T>) {
        self.items.extend(items);
        self.close();
    }

    /// Appends all lists of `other`.
    pub(crate) fn append(&mut self, mut other: Self) {
        let before = self.items.len();
        self.items.append(&mut other.items);
        (0..other.len()).for_each(|list| self.ends.push(before + other.ends.range(list).end));
    }

    /// The number of lists.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// A list.
    ///
    /// # Panics
    ///
    /// When there is no such list.
    pub(crate) fn get(&self, list: usize) -> &[T] {
        &self.items[self.ends.range(list)]
    }

    /// All lists in order.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &[T]> {
        (0..self.len()).map(|list| self.get(list))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_keep_their_items_apart_also_when_they_are_empty() {
        let mut lists = Lists::default();
        lists.push_list([1, 2]);
        lists.close();
        lists.push(3);
        lists.close();
        let mut other = Lists::default();
        other.push_list([]);
        other.push_list([4]);
        lists.append(other);
        assert_eq!(lists.iter().collect::<Vec<_>>(), [&[1, 2][..], &[], &[3], &[], &[4]]);
        assert_eq!((lists.len(), lists.get(4)), (5, &[4][..]));
    }
}
